"""Which replica a call goes to; and word of how many there are, which Serve tells its routers."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from ray.serve.request_router import FIFOMixin, PendingRequest, RunningReplica

from deployments import running
from deployments.affinity import AffinityRouter, CountingRouter

_DRAWN = 16  # replicas that are looked at, when there are more


def drawn(replicas: Sequence[str], calls: Mapping[str, int]) -> list[str]:
    """Some of the replicas, the least busy one first; `calls` are those under way, none where not known."""
    found = random.sample(replicas, min(_DRAWN, len(replicas)))
    return sorted(found, key=lambda name: calls.get(name, 0))


class _Told(CountingRouter):
    _deployment_id: Any

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        super().update_replicas(replicas)
        running.note(self._deployment_id.app_name, len(replicas))


class LeastBusyRouter(_Told, FIFOMixin):  # type: ignore[misc]  # Ray's classes are Any here
    """The least busy of those that are drawn. Of two, as Serve draws them, both are often busy while another
    is idle: calls are few here, and each is a batch."""

    def order(self, replicas: Sequence[str], request: PendingRequest | None) -> list[str]:
        return drawn(replicas, self.calls)


class LikeToLikeRouter(_Told, AffinityRouter):
    """Like requests meet on one replica, until it is busy."""
