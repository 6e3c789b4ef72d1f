"""What runs on a cluster, as plain data."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from deployments.cluster import NotAdmitted, addresses, connect, listening
from deployments.versions import GATEWAY_APP
from deployments.waiting import waits
from headrace.errors import EngineUnavailable

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle


def join_cluster(address: str) -> None:
    """Connect to a cluster; EngineUnavailable says how to start one when none answers."""
    try:
        connect(address)
    except NotAdmitted:
        raise
    except (EngineUnavailable, ConnectionError, ValueError) as err:
        raise EngineUnavailable(
            f"no Ray cluster answers at {address!r}; start one by: headrace serve CONFIG"
        ) from err


def served(address: str) -> DeploymentHandle:
    """The handle of the gateways on a cluster; EngineUnavailable when none run there."""
    from ray import serve

    join_cluster(address)
    if GATEWAY_APP not in serve.status().applications:
        raise EngineUnavailable(f"nothing is served at {address!r}; start it by: headrace serve CONFIG")
    return serve.get_app_handle(GATEWAY_APP)


def read_status(address: str) -> dict[str, Any]:
    """Applications with the states of their replicas, on what those wait that no node can take, the served
    versions of each model and how they run."""
    from ray import serve

    join_cluster(address)
    applications = serve.status().applications
    models: dict[str, list[str]] = {}
    setups: dict[str, dict[str, Any]] = {}
    if GATEWAY_APP in applications:
        gateway = serve.get_app_handle(GATEWAY_APP)
        models = gateway.models.remote().result(timeout_s=10)
        setups = gateway.setups.remote().result(timeout_s=10)
    return {
        "addresses": addresses(*listening()) if applications else [],
        "applications": {
            name: {
                "status": str(app.status.value),
                "deployments": {
                    deployment: dict(Counter(entry.replica_states))
                    for deployment, entry in app.deployments.items()
                },
            }
            for name, app in applications.items()
        },
        "waits": waits() if applications else {},
        "models": models,
        "setups": setups,
    }
