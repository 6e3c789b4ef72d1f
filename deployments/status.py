"""What runs on a cluster, as plain data."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from deployments.cluster import NotAdmitted, addresses, connect, listening
from deployments.versions import GATEWAY_APP
from deployments.waiting import waits
from headrace.errors import EngineUnavailable, HeadraceError, NotFound

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

_PATIENCE_S = 15.0
_SILENT = f"no gateway answers within {_PATIENCE_S:g} s"
_MESSAGE = 300  # characters of what Serve says of an application


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
    versions of each model and how they run, shares, rollouts, the cache, and what is wrong, in words."""
    from ray import serve

    join_cluster(address)
    applications = serve.status().applications
    asked = _Gateway(serve.get_app_handle(GATEWAY_APP)) if GATEWAY_APP in applications else None
    waiting = waits() if applications else {}
    told: dict[str, Any] = {
        "problems": [],
        "addresses": addresses(*listening()) if applications else [],
        "applications": {
            name: {
                "status": str(app.status.value),
                "message": app.message,
                "deployments": {
                    deployment: dict(Counter(entry.replica_states))
                    for deployment, entry in app.deployments.items()
                },
            }
            for name, app in applications.items()
        },
        "waits": waiting,
        "models": {},
        "setups": {},
        "figures": None,
        "cache": None,
    }
    if asked is not None:
        told |= asked.told()
    told["problems"] = problems(told)
    return told


class _Gateway:
    """Questions to a gateway, all under way at once."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._asked = {
            "models": handle.models.remote(),
            "setups": handle.setups.remote(),
            "figures": handle.figures.remote(),
            "cache": handle.cache_size.remote(),
        }

    def told(self) -> dict[str, Any]:
        """The answers. What cannot be had keeps nobody from the rest; `unheard` says why."""
        found: dict[str, Any] = {"unheard": {}}
        until = time.monotonic() + _PATIENCE_S
        for name, response in self._asked.items():
            try:
                found[name] = response.result(timeout_s=max(0.0, until - time.monotonic()))
            except NotFound:  # monitoring: false
                continue
            except HeadraceError as err:
                found["unheard"][name] = str(getattr(err, "cause", err))
            except TimeoutError:
                found["unheard"][name] = _SILENT
            except Exception as err:  # of Ray or Serve, by what has become of the gateways
                found["unheard"][name] = f"no gateway runs ({type(err).__name__})"
        if found.get("figures"):
            found["figures"] = json.loads(found["figures"])
        return found


def problems(told: Mapping[str, Any]) -> list[str]:
    """What is wrong of what was read, in words, the worst first."""
    found = []
    for name, application in told["applications"].items():
        if application["status"] != "RUNNING":
            message = " ".join(str(application["message"]).split())[:_MESSAGE]
            found.append(f"{name} is {application['status']}" + (f": {message}" if message else ""))
    found += [f"{name} waits for {what}" for name, what in told["waits"].items()]
    unheard = told.get("unheard", {})
    if "models" in unheard:  # then the others are not either
        return [*found, f"{unheard['models']}; headrace serve's own output says why"]
    if "cache" in unheard:
        found.append(f"the shared cache is out of reach, and every request is computed: {unheard['cache']}")
    if "figures" in unheard:
        found.append(f"there are no figures: {unheard['figures']}")
    if told["figures"]:
        found += told["figures"]["problems"]
    return found
