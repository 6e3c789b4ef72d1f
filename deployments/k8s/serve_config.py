"""The applications as `serve deploy` and KubeRay's serveConfigV2 take them."""

from __future__ import annotations

from typing import Any

import yaml

from headrace.config import Config

CPU_NODE = "headrace_cpu_node"  # Ray resource of nodes without a GPU, one for each CPU
WORKER_NODE = "headrace_worker"  # likewise, one for each node that is no head: those that have the repository
_WAIT_S = 180  # a node looks for changes of a ConfigMap about once a minute


def serve_config(config: Config, path: str, *, keep_off_gpus: bool = False) -> dict[str, Any]:
    """What runs of a pinned configuration that each node has as the file `path`: the gateways at "/", what
    drives rollouts, and an application without a route for each version with placement "replicas".

    `keep_off_gpus`: what needs no GPU asks for CPU_NODE, so that it takes no CPU from a model that does.
    """
    from deployments.grpc import SERVICER
    from deployments.versions import GATEWAY_APP, MONITOR_APP, app_name

    gateway: dict[str, Any] = {
        "name": GATEWAY_APP,
        "route_prefix": "/",
        "import_path": "deployments.app:gateway_app",
        "args": {"config": path, "wait_s": str(_WAIT_S)},
    }
    if keep_off_gpus:
        gateway["deployments"] = [_on_cpu_nodes("Gateway", 1)]
    monitor: dict[str, Any] = {
        "name": MONITOR_APP,
        "route_prefix": None,
        "import_path": "deployments.app:monitor_app",
        "args": {"config": path, "wait_s": str(_WAIT_S)},
        "deployments": [
            {"name": "Monitor", "ray_actor_options": {"num_cpus": 0, "resources": {WORKER_NODE: 0.01}}}
        ],
    }
    applications = [gateway, monitor]
    for name, entry in config.models.items():
        if entry.placement != "replicas":
            continue
        for version in entry.versions:
            application: dict[str, Any] = {
                "name": app_name(name, version),
                "route_prefix": None,
                "import_path": "deployments.app:model_app",
                "args": {"config": path, "wait_s": str(_WAIT_S), "model": name, "version": version},
            }
            if keep_off_gpus and not entry.num_gpus:
                application["deployments"] = [_on_cpu_nodes("Model", entry.cores)]
            applications.append(application)
    document: dict[str, Any] = {
        "proxy_location": "EveryNode",
        "http_options": {"host": config.http.host, "port": config.http.port},
    }
    if config.grpc is not None:
        document["grpc_options"] = {"port": config.grpc.port, "grpc_servicer_functions": [SERVICER]}
    return document | {"applications": applications}


def _on_cpu_nodes(deployment: str, cpus: int) -> dict[str, Any]:
    return {
        "name": deployment,
        "ray_actor_options": {"num_cpus": cpus, "resources": {CPU_NODE: cpus}},
    }


def as_text(config: dict[str, Any]) -> str:
    """As YAML, which KubeRay takes in one string."""
    return yaml.safe_dump(config, sort_keys=False)
