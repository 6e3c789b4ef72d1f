"""What is collected, and what wakes somebody."""

from __future__ import annotations

from collections.abc import Iterator

from deployments.k8s import pods
from deployments.k8s.network import HEAD, RAY_NODE, WORKER
from deployments.k8s.options import Options
from deployments.k8s.plan import Plan
from deployments.k8s.pods import Document
from deployments.versions import app_name
from headrace.errors import HeadraceError, Overloaded
from headrace.metrics import (
    AUTOSCALING_FAULTS,
    CACHE_FAULTS,
    ERRORS,
    LATENCY,
    QUEUE_AGE,
    QUEUE_FILL,
    REQUEST_LATENCY,
    ROLLOUT_EVENTS,
    MetricSpec,
)

_EVERY = "15s"
_ERROR_SHARE = 0.05
_STUCK_S = 30.0
_QUEUE_SHARE = 0.5
_OURS = 500  # and above: HTTP statuses of what is the server's own fault
# Serve's own numbers for the state of an application or deployment.
_UNHEALTHY = 2  # and below: unknown, failed to deploy


def exported(spec: MetricSpec, part: str = "") -> str:
    """Its name on Ray's Prometheus port."""
    return f"ray_{spec.name}{part}"


def monitors(options: Options) -> list[Document]:
    """Ray's metrics of every pod, ours among them; of the head also its autoscaler's and dashboard's."""
    of_ray = {"matchExpressions": [{"key": RAY_NODE, "operator": "In", "values": [HEAD, WORKER]}]}
    ours = {"matchLabels": {pods.PART_OF: options.name}}
    return [
        _monitored(
            options,
            "PodMonitor",
            "ray",
            {
                "selector": ours | of_ray,
                "podMetricsEndpoints": [{"port": "metrics", "interval": _EVERY}],
                "namespaceSelector": {"matchNames": [options.namespace]},
            },
        ),
        _monitored(
            options,
            "ServiceMonitor",
            "head",
            {
                "selector": {"matchLabels": {RAY_NODE: HEAD}},  # on the Service that KubeRay makes
                "endpoints": [{"port": port, "interval": _EVERY} for port in ("as-metrics", "dash-metrics")],
                "namespaceSelector": {"matchNames": [options.namespace]},
            },
        ),
    ]


def alerts(plan: Plan, options: Options) -> Document:
    groups = [{"name": f"{options.name}.rules", "rules": list(_rules(plan, options))}]
    return _monitored(options, "PrometheusRule", "alerts", {"groups": groups})


def _rules(plan: Plan, options: Options) -> Iterator[Document]:
    where = f'namespace="{options.namespace}"'
    yield _rule(
        "HeadraceErrors",
        f"{_error_share(where)} > {_ERROR_SHARE}",
        "5m",
        "warning",
        f"More than {_ERROR_SHARE:.0%} of the requests to {{{{ $labels.model }}}}/{{{{ $labels.version }}}} "
        "get an error that is not their callers' mistake.",
    )
    events = f'{exported(ROLLOUT_EVENTS)}{{{where},what="rolled_back"}}'
    yield _rule(
        "HeadraceRolledBack",
        f"sum by (model, version) ({added(events, '15m')}) > 0",
        "0m",
        "warning",
        "{{ $labels.model }}/{{ $labels.version }} was rolled back: headrace rollout history tells why.",
    )
    for name, entry in plan.config.models.items():
        if entry.autoscaling is None:
            continue
        objective_s = entry.autoscaling.objective_ms / 1000
        of = f'model="{name}",stage="all",quantile="0.99"'
        yield _rule(
            "HeadraceSlow",  # by the figures and not the histogram, which knows no time over its last bucket
            f"max by (model) ({exported(LATENCY)}{{{where},{of}}}) > {objective_s:g}",
            "10m",
            "warning",
            f"One in a hundred requests to {name} takes longer than its objective, {objective_s:g} s, though "
            "its replicas are scaled for it.",
        )
    yield _rule(
        "HeadraceQueueFull",
        f"max by (model) ({exported(QUEUE_FILL)}{{{where}}}) > {_QUEUE_SHARE}",
        "5m",
        "warning",
        "Over half of a process's queue of {{ $labels.model }} has been taken for minutes: soon it refuses.",
    )
    yield _rule(
        "HeadraceStuck",
        f"max by (model) ({exported(QUEUE_AGE)}{{{where}}}) > {_STUCK_S:g}",
        "2m",
        "warning",
        f"Requests to {{{{ $labels.model }}}} have waited for over {_STUCK_S:g} s for their turn.",
    )
    if plan.config.cache.enabled and plan.config.cache.url:
        yield _rule(
            "HeadraceCacheFaults",
            f"sum(rate({exported(CACHE_FAULTS)}{{{where}}}[5m])) > 1",
            "10m",
            "warning",
            "The shared cache fails more than once a second; requests are computed instead.",
        )
    yield _rule(
        "HeadraceApplicationDown",
        f'max by (application) (ray_serve_application_status{{{where},application=~"headrace(:.*)?"}}) '
        f"<= {_UNHEALTHY}",
        "2m",
        "critical",
        "Ray Serve calls the application {{ $labels.application }} unhealthy or failed to deploy it.",
    )
    yield _rule(
        "HeadraceNoGateway",
        f'absent(ray_serve_deployment_replica_healthy{{{where},application="headrace"}}) or '
        f'sum(ray_serve_deployment_replica_healthy{{{where},application="headrace"}}) < 1',
        "2m",
        "critical",
        "No gateway is healthy: nothing is answered.",
    )
    yield _rule(
        "HeadraceAutoscalingFaults",
        f"sum by (application) ({added(f'{exported(AUTOSCALING_FAULTS)}{{{where}}}', '10m')}) > 0",
        "1m",
        "warning",
        "Decisions on the replicas of {{ $labels.application }} fail; their number stays as it was.",
    )
    for name, entry in plan.config.models.items():
        if entry.autoscaling is None:
            continue
        for version in entry.versions:
            application = app_name(name, version)
            yield _rule(
                "HeadraceAtMost",
                f'max(ray_serve_autoscaling_target_replicas{{{where},application="{application}"}}) '
                f">= {entry.max_replicas}",
                "15m",
                "info",
                f"{name}/{version} has run with all {entry.max_replicas} replicas it may have: raise "
                "max_replicas, or look for what asks so much.",
            )


def added(series: str, span: str) -> str:
    """What counters were increased by. `increase` misses the first event: the series is born with it."""
    return f"clamp_min({series} - {series} offset {span}, 0) or {series}"


def _error_share(where: str) -> str:
    """Of all requests: the histogram has good ones alone, and none of a version that always fails."""
    kinds = "|".join(_serious())
    errors = f'sum by (model, version) (rate({exported(ERRORS)}{{{where},kind=~"{kinds}"}}[5m]))'
    good = f"sum by (model, version) (rate({exported(REQUEST_LATENCY, '_count')}{{{where}}}[5m]))"
    return f"{errors} / ({errors} + ({good} or 0 * {errors}))"


def _serious() -> list[str]:
    """Kinds of errors that are not their callers' mistake."""
    found, kinds = [HeadraceError], []
    while found:
        one = found.pop()
        found += one.__subclasses__()
        if one.status >= _OURS or issubclass(one, Overloaded):
            kinds.append(one.kind)
    return sorted(set(kinds))


def _rule(alert: str, expression: str, duration: str, severity: str, summary: str) -> Document:
    return {
        "alert": alert,
        "expr": expression,
        "for": duration,
        "labels": {"severity": severity},
        "annotations": {"summary": summary},
    }


def _monitored(options: Options, kind: str, name: str, spec: Document) -> Document:
    made: Document = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": kind,
        "metadata": pods.metadata(options, name, "monitoring"),
        "spec": spec,
    }
    made["metadata"]["labels"] |= options.monitor_labels
    return made
