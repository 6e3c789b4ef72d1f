"""Like requests meet on one replica, so that they share its batches, until it is busy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

_SLACK = 2  # calls more than the least busy replica has: one runs, one waits


def ranked(group: str, replicas: Sequence[str]) -> list[str]:
    """The replicas in the order in which a group prefers them (rendezvous hashing): the same in every
    process, and when one comes or goes only the groups that it is the first choice of move."""
    return sorted(replicas, key=lambda name: blake2b(f"{group}@{name}".encode(), digest_size=8).digest())


def preferred(order: Sequence[str], calls: Mapping[str, int]) -> str:
    """The first of `order`, unless it has clearly more to do than another one: then the least busy.

    `calls` are those under way, by replica; what is not known counts as idle.
    """
    first = order[0]
    least = min(order, key=lambda name: calls.get(name, 0))
    is_free = calls.get(first, 0) < calls.get(least, 0) + _SLACK
    return first if is_free else least


def calls_of(router: RequestRouter, replicas: Sequence[RunningReplica]) -> dict[str, int]:
    """The calls under way, by replica, where they are known."""
    lengths = router.replica_queue_len_cache
    return {
        replica.replica_id.unique_id: length
        for replica in replicas
        if (length := lengths.get(replica.replica_id)) is not None
    }


class AffinityRouter(RequestRouter):  # type: ignore[misc]  # Ray's classes are Any here
    """Routes a call by its argument `group`; calls without one go to the least busy replica.

    Requests keep their own replica because FIFOMixin is left out: with it a replica found for one
    request is given to the oldest.
    """

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        if not candidate_replicas:
            return []
        if pending_request is not None:
            pending_request.routing_context.should_backoff = True  # rather than ask again without a pause
        replicas = {replica.replica_id.unique_id: replica for replica in candidate_replicas}
        calls = calls_of(self, candidate_replicas)
        group = _group_of(pending_request)
        # Without a group the name of the request is one, so that idle replicas share such calls.
        order = ranked(group or _name_of(pending_request), list(replicas))
        chosen = preferred(order, calls) if group else min(order, key=lambda name: calls.get(name, 0))
        others = [replicas[name] for name in order if name != chosen]
        return [[replicas[chosen]], others]


def _group_of(request: PendingRequest | None) -> str:
    group: Any = request.kwargs.get("group", "") if request is not None else ""
    return group if isinstance(group, str) else ""


def _name_of(request: PendingRequest | None) -> str:
    return request.metadata.internal_request_id if request is not None else ""
