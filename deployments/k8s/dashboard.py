"""Grafana's dashboards: what is asked and how it is answered, and the replicas behind that."""

from __future__ import annotations

import json
from typing import Any

from deployments.k8s import pods
from deployments.k8s.monitoring import added, exported
from deployments.k8s.options import Options
from deployments.k8s.pods import Document
from headrace import metrics

_WHERE = 'namespace="$namespace",model=~"$model"'
_SERVE = 'namespace="$namespace",application=~"headrace.*"'
_VERSION = "model, version"
_WIDTH, _HEIGHT, _A_ROW = 12, 8, 2
# (title, unit, [(query, legend)])
_Panel = tuple[str, str, list[tuple[str, str]]]


def dashboards(options: Options) -> Document:
    """A ConfigMap that Grafana's sidecar finds by its label."""
    found = pods.metadata(options, "dashboards", "monitoring")
    found["labels"]["grafana_dashboard"] = "1"
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": found,
        "data": {
            f"{options.name}-requests.json": _dashboard(options, "requests", _requests()),
            f"{options.name}-replicas.json": _dashboard(options, "replicas", _replicas()),
        },
    }


def _requests() -> list[_Panel]:
    latency = metrics.REQUEST_LATENCY
    hits = exported(metrics.CACHE_REQUESTS)
    return [
        (
            "Requests",
            "reqps",
            [(_rate(exported(latency, "_count"), "model, version"), "{{model}}/{{version}}")],
        ),
        ("Errors", "reqps", [(_rate(exported(metrics.ERRORS), "model, kind"), "{{model}}: {{kind}}")]),
        ("Latency", "s", [(_quantile(latency, q), f"P{q * 100:g} {{{{model}}}}") for q in (0.5, 0.95, 0.99)]),
        (
            "Latency over all gateways, within 1%",
            "s",
            [
                (
                    f"max by (model, version, quantile) "
                    f'({exported(metrics.LATENCY)}{{{_WHERE},stage="all"}})',
                    "P{{quantile}} {{model}}/{{version}}",
                )
            ],
        ),
        (
            "Where the time goes, P50",
            "s",
            [
                (
                    f"max by (model, stage) "
                    f'({exported(metrics.LATENCY)}{{{_WHERE},quantile="0.5",stage!="all"}})',
                    "{{stage}} {{model}}",
                )
            ],
        ),
        (
            "Where the time goes, P99",
            "s",
            [
                (
                    f"max by (model, stage) "
                    f'({exported(metrics.LATENCY)}{{{_WHERE},quantile="0.99",stage!="all"}})',
                    "{{stage}} {{model}}",
                )
            ],
        ),
        ("Rows answered", "rps", [(_rate(exported(metrics.ROWS), _VERSION), "{{model}}/{{version}}")]),
        (
            "Oldest that waits",
            "s",
            [(f"max by (model) ({exported(metrics.QUEUE_AGE)}{{{_WHERE}}})", "{{model}}")],
        ),
        (
            "Padding, share of a batch's elements",
            "percentunit",
            [
                (
                    f"1 - {_rate_of(metrics.BATCH_ELEMENTS, 'use', 'useful')} / "
                    f"{_rate(exported(metrics.BATCH_ELEMENTS), 'model')}",
                    "{{model}}",
                )
            ],
        ),
        (
            "Being tried",
            "short",
            [(f"max by ({_VERSION}) ({exported(metrics.ROLLOUT)}{{{_WHERE}}})", "{{model}}/{{version}}")],
        ),
        (
            "Fullest queue",
            "percentunit",
            [(f"max by (model) ({exported(metrics.QUEUE_FILL)}{{{_WHERE}}})", "{{model}}")],
        ),
        (
            "Waiting rows",
            "short",
            [(f"sum by (model) ({exported(metrics.QUEUE_DEPTH)}{{{_WHERE}}})", "{{model}}")],
        ),
        (
            "Answers from the cache",
            "percentunit",
            [
                (
                    f'sum by (model) (rate({hits}{{{_WHERE},tier!="miss"}}[5m])) / '
                    f"sum by (model) (rate({hits}{{{_WHERE}}}[5m]))",
                    "{{model}}",
                )
            ],
        ),
        ("Where answers came from", "reqps", [(_rate(hits, "tier"), "{{tier}}")]),
        (
            "Engine time the cache saved",
            "s",
            [(_rate(exported(metrics.CACHE_SAVED), "model"), "{{model}}, seconds a second")],
        ),
        (
            "Faults of the shared cache",
            "short",
            [
                (
                    f'sum(rate({exported(metrics.CACHE_FAULTS)}{{namespace="$namespace"}}[5m]))',
                    "faults a second",
                )
            ],
        ),
        (
            "Traces and log lines lost",
            "short",
            [
                (
                    f'sum by (why) (rate({exported(metrics.TRACES_LOST)}{{namespace="$namespace"}}[5m]))',
                    "traces a second: {{why}}",
                ),
                (
                    f'sum(rate({exported(metrics.LOG_LINES_LOST)}{{namespace="$namespace"}}[5m]))',
                    "lines a second",
                ),
            ],
        ),
        (
            "Right answers, by feedback",
            "percentunit",
            [
                (
                    f"({_rate(exported(metrics.FEEDBACK_RIGHT), _VERSION)} or "  # as long as all are wrong
                    f"0 * {_rate(exported(metrics.FEEDBACK), _VERSION)}) / "
                    f"{_rate(exported(metrics.FEEDBACK), _VERSION)}",
                    "{{model}}/{{version}}",
                )
            ],
        ),
        (
            "Answers by a cheaper version",
            "reqps",
            [(_rate(exported(metrics.CHEAPER_ANSWERS), _VERSION), "{{model}}/{{version}}")],
        ),
        (
            "Share of requests, by version",
            "percentunit",
            [(f"avg by ({_VERSION}) ({exported(metrics.TRAFFIC)}{{{_WHERE}}})", "{{model}}/{{version}}")],
        ),
        (
            "Copies to candidates",
            "reqps",
            [(_rate(exported(metrics.COPIES), f"{_VERSION}, outcome"), "{{model}}/{{version}} {{outcome}}")],
        ),
        (
            "Decisions about versions",
            "short",
            [
                (
                    f"sum by ({_VERSION}, what) "
                    f"({added(f'{exported(metrics.ROLLOUT_EVENTS)}{{{_WHERE}}}', '5m')})",
                    "{{model}}/{{version}} {{what}}",
                )
            ],
        ),
        ("Batches", "ops", [(_rate(exported(metrics.BATCHES), "model"), "{{model}}")]),
        ("Rows in a batch", "short", [(_each(metrics.BATCH_ROWS), "{{model}}")]),
        ("Wait of a batch for the engine", "s", [(_each(metrics.BATCH_WAIT), "{{model}}")]),
        ("Engine time of a batch", "s", [(_each(metrics.BATCH_SERVICE), "{{model}}")]),
    ]


def _replicas() -> list[_Panel]:
    by, by_application = "sum by (application, deployment)", "sum by (application)"
    name = "{{application}} {{deployment}}"
    return [
        ("Healthy replicas", "short", [(f"{by} (ray_serve_deployment_replica_healthy{{{_SERVE}}})", name)]),
        (
            "Replicas wanted",
            "short",
            [
                (f"{by} (ray_serve_autoscaling_target_replicas{{{_SERVE}}})", f"{name}, within bounds"),
                (f"{by} (ray_serve_autoscaling_desired_replicas{{{_SERVE}}})", f"{name}, by the policy"),
            ],
        ),
        ("State (6 is running)", "short", [(f"ray_serve_application_status{{{_SERVE}}}", "{{application}}")]),
        (
            "Work that comes",
            "short",
            [
                (
                    f"max by (application) ({exported(metrics.OFFERED)}{{{_SERVE}}})",
                    "{{application}}, in replicas",
                )
            ],
        ),
        (
            "Work on hand",
            "s",
            [
                (
                    f"max by (application) ({exported(metrics.BACKLOG)}{{{_SERVE}}})",
                    "{{application}}, of a replica",
                )
            ],
        ),
        (
            "Failed decisions on replicas",
            "short",
            [
                (
                    f"{by_application} (increase({exported(metrics.AUTOSCALING_FAULTS)}{{{_SERVE}}}[10m]))",
                    "{{application}}",
                )
            ],
        ),
        (
            "Calls under way to replicas",
            "short",
            [(f"{by} (ray_serve_num_ongoing_requests_at_replicas{{{_SERVE}}})", name)],
        ),
        ("Cores in use", "short", [(f"{by} ({exported(metrics.PROCESS_CPU)}{{{_SERVE}}})", name)]),
        ("Memory", "bytes", [(f"{by} ({exported(metrics.PROCESS_MEMORY)}{{{_SERVE}}})", name)]),
        (
            "GPUs in use",
            "percentunit",
            [
                (
                    f"avg by (application, gpu) ({exported(metrics.GPU_UTILIZATION)}{{{_SERVE}}})",
                    f"{name} {{{{gpu}}}}",
                )
            ],
        ),
        (
            "GPU memory",
            "bytes",
            [
                (
                    f"max by (application, gpu) ({exported(metrics.GPU_MEMORY)}{{{_SERVE}}})",
                    f"{name} {{{{gpu}}}}",
                )
            ],
        ),
        (
            "Releases",
            "short",
            [
                (
                    f"count by (headrace, ray, onnxruntime) "
                    f'({exported(metrics.BUILD)}{{namespace="$namespace"}})',
                    "headrace {{headrace}}, ray {{ray}}, onnxruntime {{onnxruntime}}",
                )
            ],
        ),
        (
            "Replicas started",
            "short",
            [(f"{by} (increase(ray_serve_deployment_replica_starts_total{{{_SERVE}}}[10m]))", name)],
        ),
        (
            "Failed health checks",
            "short",
            [(f"{by} (increase(ray_serve_health_check_failures_total{{{_SERVE}}}[10m]))", name)],
        ),
    ]


def _rate(metric: str, by: str) -> str:
    return f"sum by ({by}) (rate({metric}{{{_WHERE}}}[5m]))"


def _rate_of(spec: metrics.MetricSpec, label: str, value: str) -> str:
    return f'sum by (model) (rate({exported(spec)}{{{_WHERE},{label}="{value}"}}[5m]))'


def _each(spec: metrics.MetricSpec) -> str:
    return f"{_rate(exported(spec), 'model')} / {_rate(exported(metrics.BATCHES), 'model')}"


def _quantile(spec: metrics.MetricSpec, share: float) -> str:
    return f"histogram_quantile({share:g}, {_rate(exported(spec, '_bucket'), 'model, le')})"


def _dashboard(options: Options, which: str, panels: list[_Panel]) -> str:
    variables: list[dict[str, Any]] = [
        {"name": "datasource", "type": "datasource", "query": "prometheus"},
        {"name": "namespace", "type": "constant", "query": options.namespace},
    ]
    if which == "requests":
        query = (
            f'label_values({exported(metrics.REQUEST_LATENCY, "_count")}{{namespace="$namespace"}}, model)'
        )
        variables.append(
            {
                "name": "model",
                "type": "query",
                "datasource": _source(),
                "query": query,
                "includeAll": True,
                "multi": True,
                "current": {"text": "All", "value": "$__all"},
                "refresh": 2,
            }
        )
    document = {
        "uid": f"{options.name}-{which}",
        "title": f"{options.name}: {which}",
        "tags": ["headrace"],
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": variables},
        "panels": [_panel(number, panel) for number, panel in enumerate(panels)],
    }
    return json.dumps(document, indent=1)


def _panel(number: int, panel: _Panel) -> dict[str, Any]:
    title, unit, queries = panel
    row, column = divmod(number, _A_ROW)
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": title,
        "datasource": _source(),
        "gridPos": {"x": column * _WIDTH, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + at), "expr": expression, "legendFormat": legend}
            for at, (expression, legend) in enumerate(queries)
        ],
    }


def _source() -> dict[str, str]:
    return {"type": "prometheus", "uid": "${datasource}"}
