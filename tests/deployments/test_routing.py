"""A call goes to the least busy replica; equally busy ones take turns."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from ray.serve._private.common import DeploymentHandleSource, DeploymentID, ReplicaID

from deployments.routing import LeastBusyRouter, LikeToLikeRouter, drawn


def test_the_least_busy_of_few_is_always_found() -> None:
    replicas = [f"r{number}" for number in range(8)]
    calls = dict.fromkeys(replicas, 2) | {"r5": 1}
    assert {drawn(replicas, calls)[0] for _ in range(50)} == {"r5"}


def test_what_is_not_known_counts_as_idle() -> None:
    assert drawn(["a", "b"], {"a": 1}) == ["b", "a"]


def test_equally_busy_ones_are_taken_in_turn() -> None:
    firsts = Counter(drawn(["a", "b", "c"], {})[0] for _ in range(600))
    assert min(firsts.values()) > 120


def test_of_many_only_some_are_looked_at() -> None:
    assert len(drawn([str(number) for number in range(1000)], {})) == 16


@pytest.mark.parametrize("kind", [LeastBusyRouter, LikeToLikeRouter])
async def test_what_a_replica_said_of_itself_before_does_not_make_it_busy(
    kind: type[LeastBusyRouter],
) -> None:
    """Over gRPC Serve hears how many calls a replica had when a call began only when that call has ended."""
    deployment = DeploymentID("Model", "headrace:m:1")
    replica = ReplicaID("r1", deployment)
    router = kind(
        deployment_id=deployment,
        handle_source=DeploymentHandleSource.REPLICA,
        use_replica_queue_len_cache=True,
        event_loop=asyncio.get_running_loop(),
    )
    for _ in range(2):
        router.on_send_request(replica)
    assert router.calls["r1"] == 2
    for name in ("a", "b"):
        router.on_request_completed(replica, name)
        router.on_new_queue_len_info(replica, 2)
        router.decrement_queue_len_cache(replica)
    assert not router.calls
