"""What Serve calls to know how many replicas there should be.

Serve ships this module by value to its controller: what is to be remembered lies in modules that are imported
there. A policy that raises would stop the control loop for every application of the cluster.
"""

from __future__ import annotations

from typing import Any

from ray.serve.config import AutoscalingContext

from autoscaling.policy import Goals
from autoscaling.reports import Cost
from deployments import autoscale


class NoteGateways:
    """For gateways."""

    def __call__(self, ctx: AutoscalingContext) -> autoscale.Outcome:
        try:
            return autoscale.note(ctx)
        except Exception as err:
            return autoscale.held(ctx, err)


class ByWork:
    """For the replicas of a model version."""

    def __init__(self, goals: dict[str, Any], known: dict[str, Any], every_s: float) -> None:
        self._goals = Goals(**goals)
        self._known = Cost(**known)
        self._every_s = every_s
        self._due = 0.0

    def __call__(self, ctx: AutoscalingContext) -> autoscale.Outcome:
        try:
            if ctx.current_time < self._due:
                return ctx.target_num_replicas, dict(ctx.policy_state or {})
            self._due = ctx.current_time + self._every_s
            return autoscale.replicas(ctx, self._goals, self._known)
        except Exception as err:
            return autoscale.held(ctx, err)
