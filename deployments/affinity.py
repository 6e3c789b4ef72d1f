"""Like requests meet on one replica, so that they share its batches, until it is busy."""

from __future__ import annotations

from collections import Counter
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


class CountingRouter(RequestRouter):  # type: ignore[misc]  # Ray's classes are Any here
    """Counts the calls of this process that are under way, by replica.

    Serve's own count goes wrong where replicas answer over gRPC: what a replica says of itself when a call
    begins is heard only when that call has ended, and then an idle one is taken for busy, for seconds.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.calls: Counter[str] = Counter()

    def on_send_request(self, replica_id: Any) -> None:
        super().on_send_request(replica_id)
        self.calls[replica_id.unique_id] += 1

    def on_request_completed(self, replica_id: Any, internal_request_id: str) -> None:
        super().on_request_completed(replica_id, internal_request_id)
        name = replica_id.unique_id
        self.calls[name] -= 1
        if self.calls[name] <= 0:  # replicas come and go
            del self.calls[name]

    def order(self, replicas: Sequence[str], request: PendingRequest | None) -> list[str]:
        """The replicas that a call may go to, the best one first."""
        raise NotImplementedError

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
        first, *others = (replicas[name] for name in self.order(list(replicas), pending_request))
        return [[first], others]


class AffinityRouter(CountingRouter):
    """Routes a call by its argument `group`; calls without one go to the least busy replica.

    Requests keep their own replica because FIFOMixin is left out: with it a replica found for one
    request is given to the oldest.
    """

    def order(self, replicas: Sequence[str], request: PendingRequest | None) -> list[str]:
        group = _group_of(request)
        # Without a group the name of the request is one, so that idle replicas share such calls.
        order = ranked(group or _name_of(request), replicas)
        chosen = (
            preferred(order, self.calls) if group else min(order, key=lambda name: self.calls.get(name, 0))
        )
        return [chosen, *(name for name in order if name != chosen)]


def _group_of(request: PendingRequest | None) -> str:
    group: Any = request.kwargs.get("group", "") if request is not None else ""
    return group if isinstance(group, str) else ""


def _name_of(request: PendingRequest | None) -> str:
    return request.metadata.internal_request_id if request is not None else ""
