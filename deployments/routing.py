"""Which replica a call goes to; and word of how many there are, which Serve tells its routers."""

from __future__ import annotations

import random
from typing import Any

from ray.serve.request_router import FIFOMixin, PendingRequest, RequestRouter, RunningReplica

from deployments import running
from deployments.affinity import AffinityRouter, calls_of

_DRAWN = 16  # replicas that are looked at, when there are more


class _Counted(RequestRouter):  # type: ignore[misc]  # Ray's classes are Any here
    _deployment_id: Any

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        super().update_replicas(replicas)
        running.note(self._deployment_id.app_name, len(replicas))


class LeastBusyRouter(_Counted, FIFOMixin):  # type: ignore[misc]
    """The least busy of those that are drawn. Of two, as Serve draws them, both are often busy while another
    is idle: calls are few here, and each is a batch."""

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        if not candidate_replicas:
            return []
        if pending_request is not None:
            pending_request.routing_context.should_backoff = True  # rather than ask again without a pause
        calls = calls_of(self, candidate_replicas)
        drawn = random.sample(candidate_replicas, min(_DRAWN, len(candidate_replicas)))
        first, *others = sorted(drawn, key=lambda replica: calls.get(replica.replica_id.unique_id, 0))
        return [[first], others]


class LikeToLikeRouter(_Counted, AffinityRouter):
    """Like requests meet on one replica, until it is busy."""
