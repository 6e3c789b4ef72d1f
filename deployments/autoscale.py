"""Serve's autoscaling: what gateways and replicas report, handed to the policy, and its decision.

Serve shows a policy the reports of its own deployment alone. What waits for a model waits in the gateways,
which are another one: so they have a policy, too (`deployments.policies`), that changes nothing and has their
reports noted here. All policies are called in the controller's process, in turn.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from dataclasses import asdict, fields
from functools import cache
from typing import Any

from ray.serve.config import AutoscalingConfig as ServeConfig
from ray.serve.config import AutoscalingContext, AutoscalingPolicy
from ray.util import metrics

from autoscaling.policy import Goals, Memory, decide
from autoscaling.reports import Cost, GatewayReport, ReplicaReport, cost_of, demand_of
from headrace.config import AutoscalingConfig
from headrace.metrics import AUTOSCALING_FAULTS, BACKLOG, OFFERED, MetricSpec

_log = logging.getLogger("ray.serve")
_INTERVAL_S = 0.5  # between a replica's reports
_LONGEST_S = 5.0  # likewise, where there are many: well below what counts as fresh
_MOST_PER_S = 500  # reports of one model version that the controller is to read
_KEPT = 3  # reports that Serve keeps; the newest counts
_DECISIONS = 5  # for each report: Serve asks ten times a second, and with 10,000 replicas one takes 0.3 s
_PROCESS_S = 3.0  # of a replica's start, before it loads its engine, until measured
_POLICIES = "deployments.policies"
_LOADS_S = 2.0  # likewise, as long as none has told

Outcome = tuple[int, dict[str, Any]]  # replicas, and what the next decision gets

_gateways: dict[str, list[GatewayReport]] = {}  # by application of a model version


def told(reports: Mapping[str, GatewayReport]) -> dict[str, float]:
    """A gateway's reports, by application, as Serve takes them: numbers by name."""
    return {
        f"{key} {name}": value for name, report in reports.items() for key, value in report.numbers().items()
    }


def note(ctx: AutoscalingContext) -> Outcome:
    """Note what the gateways report; their number stays as it is."""
    found: dict[str, list[GatewayReport]] = {}
    for at, numbers in _newest(ctx):
        by_name: dict[str, dict[str, float]] = {}
        for key, value in numbers.items():
            field, _, name = key.partition(" ")
            if name:
                by_name.setdefault(name, {})[field] = value
        for name, values in by_name.items():
            found.setdefault(name, []).append(GatewayReport(at, **values))
    _gateways.clear()
    _gateways.update(found)
    return ctx.target_num_replicas, {}


def num_held(application: str) -> float:
    """The requests to a model version that have no answer yet."""
    return sum(report.held for report in _gateways.get(application, []))


def replicas(ctx: AutoscalingContext, goals: Goals, known: Cost) -> Outcome:
    """As many as the work needs that is asked of a model version; `known` is what its manifest says."""
    state = ctx.policy_state or {}
    names = {field.name for field in fields(ReplicaReport)} - {"at"}
    reports = [
        ReplicaReport(at, **{name: numbers[name] for name in names})
        for at, numbers in _newest(ctx)
        if names <= numbers.keys()
    ]
    cost = cost_of(reports, state.get("cost", known))
    demand = demand_of(_gateways.get(ctx.app_name, []), reports, cost)
    start_s = _PROCESS_S + max((report.loaded_s for report in reports), default=_LOADS_S)
    running, target = ctx.current_num_replicas, ctx.target_num_replicas
    memory = state.get("memory", Memory())
    found = decide(ctx.current_time, running, target, demand, goals, memory, start_s)
    if demand is not None:
        tags = {"application": ctx.app_name}
        _gauge(OFFERED).set(demand.offered, tags=tags)
        _gauge(BACKLOG).set(demand.backlog_s, tags=tags)
    if found.replicas != target:
        _log.info(f"{ctx.app_name}: {found.replicas} replicas, not {target}: {found.why} ({demand})")
    return found.replicas, {"memory": found.memory, "cost": cost}


def held(ctx: AutoscalingContext, err: Exception) -> Outcome:
    """After a fault in a policy: all stays as it is, and the fault is counted."""
    _log.error(f"{ctx.app_name}: the autoscaling policy failed", exc_info=err)
    _counter(AUTOSCALING_FAULTS).inc(tags={"application": ctx.app_name})
    return ctx.target_num_replicas, dict(ctx.policy_state or {})


def gateways_config(gateways: int) -> ServeConfig:
    """For the gateways, whose number is fixed."""
    return _config(
        gateways, gateways, gateways, AutoscalingPolicy(policy_function=f"{_POLICIES}:NoteGateways")
    )


def replicas_config(config: AutoscalingConfig, known: Cost) -> ServeConfig:
    """For the replicas of a model version. One is started even where none need be there, so that a version
    that cannot be loaded is found out."""
    every_s = decides_every_s(config.max_replicas)
    kwargs = {"goals": asdict(goals_of(config)), "known": asdict(known), "every_s": every_s}
    policy = AutoscalingPolicy(policy_function=f"{_POLICIES}:ByWork", policy_kwargs=kwargs)
    return _config(config.min_replicas, max(1, config.min_replicas), config.max_replicas, policy)


def goals_of(config: AutoscalingConfig) -> Goals:
    return Goals(
        min_replicas=config.min_replicas,
        max_replicas=config.max_replicas,
        objective_s=config.objective_ms / 1000,
        utilization=config.utilization,
        down_after_s=config.down_after_s,
        sleep_after_s=config.sleep_after_s,
        starts_at_once=config.starts_at_once or 0,
    )


def interval_s(most: int) -> float:
    """Between two reports of a replica, where there can be so many."""
    return min(max(_INTERVAL_S, most / _MOST_PER_S), _LONGEST_S)


def decides_every_s(most: int) -> float:
    """Between two decisions, where there can be so many replicas."""
    return interval_s(most) / _DECISIONS


def _config(least: int, first: int, most: int, policy: AutoscalingPolicy) -> ServeConfig:
    """Serve's own delays are off: the policy knows when to wait."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Serve has no other setting yet for how often reports come
        return ServeConfig(
            min_replicas=least,
            initial_replicas=first,
            max_replicas=most,
            upscale_delay_s=0,
            downscale_delay_s=0,
            metrics_interval_s=interval_s(most),
            look_back_period_s=_KEPT * interval_s(most),
            policy=policy,
        )


def _newest(ctx: AutoscalingContext) -> list[tuple[float, dict[str, float]]]:
    """Each replica's newest report: when it was made, and its numbers by name."""
    found: dict[Any, tuple[float, dict[str, float]]] = {}
    for name, by_replica in (ctx.raw_metrics or {}).items():
        for replica, series in by_replica.items():
            if series:
                at, numbers = found.get(replica, (series[-1].timestamp, {}))
                found[replica] = min(at, series[-1].timestamp), {**numbers, name: series[-1].value}
    return list(found.values())


@cache
def _gauge(spec: MetricSpec) -> metrics.Gauge:
    return metrics.Gauge(spec.name, description=spec.description, tag_keys=spec.labels)


@cache
def _counter(spec: MetricSpec) -> metrics.Counter:
    return metrics.Counter(spec.name, description=spec.description, tag_keys=spec.labels)
