"""On what replicas wait that no node can take, by what Serve says of its deployments."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from deployments.nodes import rooms
from deployments.placement import waits_for

_log = logging.getLogger(__name__)
TELL_S = 5.0


def waits() -> dict[str, str]:
    """For each application with replicas that no node can take: how many, and for what, in words."""
    nodes = rooms()
    found = {}
    for name, deployment in _deployments():
        waiting = sum(_is_waiting(replica) for replica in deployment["replicas"])
        config = deployment["deployment_config"]
        options = config.get("ray_actor_options") or {}
        amounts = {"CPU": options.get("num_cpus") or 0, "GPU": options.get("num_gpus") or 0}
        what = waits_for(
            {resource: amount for resource, amount in amounts.items() if amount},
            nodes,
            config.get("max_replicas_per_node"),
            Counter(replica.get("node_id", "") for replica in deployment["replicas"]),
        )
        if waiting and what:
            replicas = "a replica" if waiting == 1 else f"{waiting} replicas"
            found[name] = f"{what} ({replicas})"
    return found


def capacities(application: str, cpus: float = 1.0) -> list[int]:
    """How many replicas of an application, each of so many CPUs, every node could take; those there are count
    as room, since an update ends them."""
    there = Counter(
        replica.get("node_id", "")
        for name, deployment in _deployments()
        if name == application
        for replica in deployment["replicas"]
    )
    return [int(room.free.get("CPU", 0) // cpus) + there[room.id] for room in rooms()]


@contextmanager
def telling() -> Iterator[None]:
    """As long as the block runs, a warning when what replicas wait for changes: Serve waits in silence."""
    ended = threading.Event()

    def tell() -> None:
        said: dict[str, str] = {}
        while not ended.wait(TELL_S):
            try:
                now = waits()
            except Exception as err:  # the cluster may be restarting; who waits for it hears of that
                _log.debug("cannot tell what is waited for: %s", err)
                continue
            for name, what in now.items():
                if said.get(name) != what:
                    _log.warning("%s waits for %s", name, what)
            said = now

    thread = threading.Thread(target=tell, name="waits", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _deployments() -> Iterator[tuple[str, dict[str, Any]]]:
    from ray.serve.context import _get_global_client

    for name, application in _get_global_client().get_serve_details()["applications"].items():
        for deployment in application["deployments"].values():
            yield name, deployment


def _is_waiting(replica: dict[str, Any]) -> bool:
    return bool(replica["state"] == "STARTING") and not replica.get("node_id")
