"""Which replica a call goes to; and word of how many there are, which Serve tells its routers."""

from __future__ import annotations

from typing import Any

from ray.serve._private.request_router.pow_2_router import PowerOfTwoChoicesRequestRouter
from ray.serve.request_router import RequestRouter, RunningReplica

from deployments import running
from deployments.affinity import AffinityRouter


class _Counted(RequestRouter):  # type: ignore[misc]  # Ray's classes are Any here
    _deployment_id: Any

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        super().update_replicas(replicas)
        running.note(self._deployment_id.app_name, len(replicas))


class LeastBusyRouter(_Counted, PowerOfTwoChoicesRequestRouter):  # type: ignore[misc]
    """The less busy one of two that are drawn."""


class LikeToLikeRouter(_Counted, AffinityRouter):
    """Like requests meet on one replica, until it is busy."""
