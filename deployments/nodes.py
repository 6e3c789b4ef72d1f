"""The nodes of the connected cluster: what they have free, and whether each can read the repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deployments.placement import Room
from engines.artifact import Repository
from engines.manifest import digest_of
from headrace.config import Config
from headrace.errors import ConfigRejected, HeadraceError

REPOSITORY_S = 30.0  # a node starts a process and imports us in 2 to 5
_LOOPBACK = ("127.", "localhost", "::1")


def rooms() -> list[Room]:
    """The nodes that are alive and not on their way out, in the order of their addresses."""
    import ray
    from ray._private.state import available_resources_per_node, state

    free: dict[str, dict[str, float]] = available_resources_per_node()
    leaving = state.get_draining_nodes()
    found = [
        Room(node["NodeID"], node["NodeManagerAddress"], node["Resources"], free.get(node["NodeID"], {}))
        for node in ray.nodes()
        if node["Alive"] and node["NodeID"] not in leaving
    ]
    return sorted(found, key=lambda room: room.address)


def check_front(host: str, nodes: list[Room]) -> None:
    """ConfigRejected for an address by which the HAProxies of several nodes could not reach each other's
    gateways: Serve has those listen where HAProxy does."""
    if len(nodes) > 1 and host.startswith(_LOOPBACK):
        raise ConfigRejected(
            f"http.host: {host} is reached from the same node only, and this cluster has {len(nodes)} nodes, "
            "which send requests to each other's gateways; give http.host: 0.0.0.0"
        )


def check_repository(config: Config, nodes: list[Room], timeout_s: float = REPOSITORY_S) -> None:
    """ConfigRejected when a node does not find every version of a pinned configuration as it is here."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = digests(config.repository, _wanted(config))
    look = ray.remote(num_cpus=0, max_retries=0)(digests)
    asked = {
        look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(room.id, soft=False)).remote(
            config.repository, _wanted(config)
        ): room.address
        for room in nodes
    }
    done, late = ray.wait(list(asked), num_returns=len(asked), timeout=timeout_s)
    for task in late:
        ray.cancel(task, force=True)
    for task in done:
        found = _result(task, asked[task])
        for version, digest in found.items():
            if digest != here[version]:
                raise ConfigRejected(
                    f"repository: {config.repository} on node {asked[task]} has no {version} as here "
                    f"({digest}); put the repository where every node reads it under this path, such as a "
                    "shared volume"
                )
    if late:
        raise ConfigRejected(
            f"repository: {config.repository} could not be read on node {asked[late[0]]} within "
            f"{timeout_s:g} s; see whether that node, and what the path is mounted from, is well"
        )


def _result(task: Any, address: str) -> dict[str, str]:
    import ray

    try:
        found: dict[str, str] = ray.get(task)
    except ray.exceptions.RayError as err:
        why = str(err).strip().splitlines()
        raise ConfigRejected(
            f"repository: node {address} could not look for it ({why[-1] if why else type(err).__name__}); "
            "Headrace must be installed there, and be on the PYTHONPATH of Ray"
        ) from err
    return found


def digests(repository: str, wanted: list[tuple[str, str]]) -> dict[str, str]:
    """The digest of each version, by "NAME/VERSION"; where it cannot be read, why."""
    found = {}
    for name, version in wanted:
        try:
            found[f"{name}/{version}"] = digest_of(Repository(Path(repository)).manifest(name, version))
        except (HeadraceError, OSError) as err:
            found[f"{name}/{version}"] = str(err)
    return found


def _wanted(config: Config) -> list[tuple[str, str]]:
    return [(name, version) for name, entry in config.models.items() for version in entry.versions]
