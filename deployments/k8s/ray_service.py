"""The RayService: the head, nodes for gateways and models, and what runs on them."""

from __future__ import annotations

import json
from importlib import metadata as installed
from pathlib import Path
from typing import Any

from deployments.admin import TOKEN
from deployments.flags import HEAD_BYTES, Installed, Ports, serve_flags
from deployments.k8s import pods
from deployments.k8s.options import Node, Options
from deployments.k8s.plan import (
    AGENT_PORT,
    AUTOSCALER_METRICS_PORT,
    CLIENT_PORT,
    CONFIG_FOLDER,
    DASHBOARD_METRICS_PORT,
    DASHBOARD_PORT,
    FALLBACK_GRPC_PORT,
    FALLBACK_PORT,
    GCS_PORT,
    HAPROXY_METRICS_PORT,
    METRICS_PORT,
    REPOSITORY,
    STATS_PORT,
    Group,
    Plan,
)
from deployments.k8s.pods import Document
from deployments.k8s.serve_config import CPU_NODE, WORKER_NODE, as_text, serve_config
from engines.tensorrt import PLANS
from headrace.config import Config

IN_IMAGE = Installed(
    Path("/app"), "/opt/venv/bin/python", "/opt/venv/bin/haproxy", threads=2
)  # see Dockerfile
HAPROXY_FOLDER = "/run/headrace"
STATE_SECRET_KEY = "REDIS_PASSWORD"  # noqa: S105 - a Secret's key
CPU_GROUP, GPU_GROUP = "cpu", "gpu"
_HEAD = Node(cpus=2, memory_gib=4)
_OBJECT_STORE = 768 << 20  # bytes; requests go from process to process without it
_DRAINING_S = 5  # until every node's HAProxy has heard that a replica leaves
_RAY_LOGS = "/tmp/ray"  # noqa: S108 - a volume of the pod's own
_IDLE_S = 120
_PLANS_FOLDER = "/plans"


def ray_service(plan: Plan, options: Options) -> Document:
    """With the nodes that every configuration needs; GPU nodes come by `gpu_group`."""
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": pods.metadata(options, "", "serve"),
        "spec": {
            "serveConfigV2": applications(plan),
            # A change of the nodes makes a new cluster, which gets the traffic when it is ready.
            "upgradeStrategy": {"type": "NewCluster"},
            "excludeHeadPodFromServeSvc": True,
            "rayClusterConfig": {
                "rayVersion": installed.version("ray"),
                "authOptions": {"mode": "token"},
                "enableInTreeAutoscaling": True,
                "autoscalerOptions": _autoscaler(),
                "gcsFaultToleranceOptions": {
                    "redisAddress": f"{options.name}-state:6379",
                    "redisPassword": {
                        "valueFrom": {
                            "secretKeyRef": {"name": f"{options.name}-state", "key": STATE_SECRET_KEY}
                        }
                    },
                },
                "headGroupSpec": {
                    "serviceType": "ClusterIP",
                    "enableIngress": False,
                    # No CPUs: what answers requests shall not be where the cluster is looked after.
                    "rayStartParams": {
                        "dashboard-host": "0.0.0.0",  # noqa: S104 - the operator asks there; see network.py
                        "num-cpus": "0",
                        "object-store-memory": str(_OBJECT_STORE),
                    },
                    "template": _head(plan, options),
                },
                "workerGroupSpecs": [cpu_group(plan, options)],
            },
        },
    }


def applications(plan: Plan) -> str:
    """serveConfigV2."""
    path = f"{CONFIG_FOLDER}/{plan.file}"
    return as_text(serve_config(plan.config, path, keep_off_gpus=plan.gpu is not None))


def cpu_group(plan: Plan, options: Options) -> Document:
    """Nodes of gateways and of models that need no GPU."""
    group = _group(CPU_GROUP, plan.cpu, _worker(plan, options, CPU_GROUP))
    resources = {WORKER_NODE: 1} | ({CPU_NODE: plan.cpu.node.cpus} if plan.gpu is not None else {})
    told = json.dumps(resources).replace('"', '\\"')
    group["rayStartParams"]["resources"] = f'"{told}"'  # quoted for the shell that KubeRay starts Ray by
    return group


def gpu_group(plan: Plan, options: Options) -> Document:
    """Nodes of models that need a GPU."""
    assert plan.gpu is not None
    return _group(GPU_GROUP, plan.gpu, _worker(plan, options, GPU_GROUP))


def flags(config: Config) -> dict[str, str]:
    """The environment that Serve needs on every node, with the image's paths and fixed ports."""
    ports = Ports(STATS_PORT, HAPROXY_METRICS_PORT, FALLBACK_PORT, FALLBACK_GRPC_PORT)
    limit = (config.limits.body_mib << 20) + HEAD_BYTES
    made = serve_flags(
        config.http,
        config.grpc,
        Path(HAPROXY_FOLDER),
        ports,
        max_message=limit,
        installed=IN_IMAGE,
        is_alone=False,
    )
    return made | {"RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": str(_DRAINING_S)}


def _group(name: str, group: Group, template: Document) -> Document:
    return {
        "groupName": name,
        "replicas": group.least,
        "minReplicas": group.least,
        "maxReplicas": group.most,
        "numOfHosts": 1,
        "rayStartParams": {"object-store-memory": str(_OBJECT_STORE)},
        "template": template,
    }


def _autoscaler() -> Document:
    return {
        "version": "v2",
        "upscalingMode": "Default",
        "idleTimeoutSeconds": _IDLE_S,
        "imagePullPolicy": "Always",
        "resources": pods.small("500m", "512Mi"),
        "securityContext": pods.container_security(),
        "env": _variables({"HOME": pods.TMP, "PYTHONDONTWRITEBYTECODE": "1"}),
        "volumeMounts": [pods.mount("tmp", pods.TMP), pods.mount("ray-logs", _RAY_LOGS)],
    }


def _head(plan: Plan, options: Options) -> Document:
    # The agent answers for the raylet, and on the head for the GCS, too.
    health = "/api/healthz"
    ports = {
        "gcs-server": GCS_PORT,
        "dashboard": DASHBOARD_PORT,
        "client": CLIENT_PORT,
        "serve": plan.config.http.port,  # where the operator asks for the health of the head's HAProxy
        "metrics": METRICS_PORT,
        "as-metrics": AUTOSCALER_METRICS_PORT,
        "dash-metrics": DASHBOARD_METRICS_PORT,
    }
    container = _container(plan, options.image, _HEAD, "ray-head", ports)
    container["livenessProbe"] = pods.http_probe(health, AGENT_PORT, period_s=10, failures=12, delay_s=30)
    container["readinessProbe"] = pods.http_probe(health, AGENT_PORT, period_s=5, failures=10)
    template = _template(plan, options, "head", container)
    template["spec"]["volumes"].append(pods.empty("ray-logs", "2Gi"))
    container["volumeMounts"].append(pods.mount("ray-logs", _RAY_LOGS))
    # The autoscaler beside it asks Kubernetes for nodes, so only here is a token of KubeRay's making.
    template["spec"]["automountServiceAccountToken"] = True
    return template


def _worker(plan: Plan, options: Options, group: str) -> Document:
    is_gpu = group == GPU_GROUP
    node = options.gpu_node if is_gpu else options.cpu_node
    ports = {"serve": plan.config.http.port, "metrics": METRICS_PORT}
    if plan.config.grpc is not None:
        ports["grpc"] = plan.config.grpc.port
    container = _container(plan, options.gpu_image if is_gpu else options.image, node, "ray-worker", ports)
    container["env"] += [pods.secret_variable(name, f"{options.name}-cache") for name in plan.secrets]
    container["env"].append(pods.secret_variable(TOKEN, f"{options.name}-admin", is_optional=True))
    container["livenessProbe"] = pods.http_probe(
        "/api/healthz", AGENT_PORT, period_s=10, failures=12, delay_s=30
    )
    # In the Service when its HAProxy knows a gateway.
    container["readinessProbe"] = pods.http_probe("/-/healthz", plan.config.http.port, period_s=5, failures=1)
    template = _template(plan, options, group, container)
    spec = template["spec"]
    if is_gpu:
        # Built plans outlive their pod, and serve the others. They are run unchecked, so no other kind of pod
        # has this volume; the folder in it is made by who builds the first.
        container["env"] += _variables({PLANS: f"{_PLANS_FOLDER}/built"})
        container["volumeMounts"].append(pods.mount("plans", _PLANS_FOLDER))
        spec["volumes"].append(pods.claim_volume(options, "plans", read_only=False))
    spec["automountServiceAccountToken"] = False
    spec["terminationGracePeriodSeconds"] = 60
    spec["topologySpreadConstraints"] = [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",  # together is better than not at all
            "labelSelector": {"matchLabels": pods.labels_of(options, group)},
        }
        for key in ("kubernetes.io/hostname", "topology.kubernetes.io/zone")
    ]
    if is_gpu:
        spec["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    return template


def _template(plan: Plan, options: Options, component: str, container: Document) -> Document:
    return {
        "metadata": {"labels": pods.labels_of(options, component)},
        "spec": {
            "securityContext": pods.pod_security(),
            "enableServiceLinks": False,  # variables that Kubernetes would make of every Service
            "containers": [container],
            "volumes": [
                {"name": "config", "configMap": {"name": f"{options.name}-config"}},
                pods.claim_volume(options, "models", read_only=False),
                pods.empty("shared-mem", f"{pods.SHARED_MEMORY_GIB}Gi", in_memory=True),
                pods.empty("tmp", "10Gi"),
                pods.empty("haproxy", "64Mi"),
            ],
        },
    }


def _container(plan: Plan, image: str, node: Node, name: str, ports: dict[str, int]) -> Document:
    variables = {
        "PYTHONPATH": str(IN_IMAGE.root),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": pods.TMP,  # the image's own cannot be written
        **flags(plan.config),
    }
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "Always",
        "env": _variables(variables),
        "ports": [{"name": key, "containerPort": port} for key, port in ports.items()],
        "resources": pods.resources(node),
        "securityContext": pods.container_security(),
        "volumeMounts": [
            pods.mount("config", CONFIG_FOLDER, read_only=True),
            pods.mount("models", REPOSITORY),  # rollouts are written there
            pods.mount("shared-mem", pods.SHARED_MEMORY),
            pods.mount("tmp", pods.TMP),
            pods.mount("haproxy", HAPROXY_FOLDER),
        ],
    }


def _variables(values: dict[str, str]) -> list[dict[str, Any]]:
    return [{"name": name, "value": value} for name, value in values.items()]
