"""Serve's default autoscaling policy, told of every request.

It counts the calls of a handle, of which one here holds many requests: so it gets the number of all requests
that have no answer yet, as it would where each was a call of its own. The rest is Serve's: its formula, and
its settings as they come unless said otherwise.
"""

from __future__ import annotations

import warnings
from collections import deque
from typing import Any

from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy

from deployments import autoscale


class ByRequests:
    """As many replicas as requests, on average over a while, divided by how many each should hold."""

    def __init__(self, target: float, look_back_s: float) -> None:
        self._target = target
        self._look_back_s = look_back_s
        self._seen: deque[tuple[float, float]] = deque()

    def __call__(self, ctx: AutoscalingContext) -> tuple[float, dict[str, Any]]:
        self._seen.append((ctx.current_time, autoscale.num_held(ctx.app_name)))
        while self._seen[0][0] < ctx.current_time - self._look_back_s:
            self._seen.popleft()
        return sum(held for _, held in self._seen) / len(self._seen) / self._target, {}


def config(max_replicas: int, target: float | None = None, **settings: float) -> AutoscalingConfig:
    """Serve's own defaults with these bounds; `settings` instead of some of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Serve has no other setting yet for how often reports come
        usual = AutoscalingConfig(max_replicas=max_replicas, **settings)
        target = usual.get_target_ongoing_requests() if target is None else target
        kwargs = {"target": target, "look_back_s": usual.look_back_period_s}
        policy = AutoscalingPolicy(policy_function="benchmarks.serve_policy:ByRequests", policy_kwargs=kwargs)
        return AutoscalingConfig(max_replicas=max_replicas, policy=policy, **settings)
