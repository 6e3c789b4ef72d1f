"""The metrics of headrace.metrics on Ray's Prometheus port."""

from __future__ import annotations

from functools import cache

from ray.serve import metrics as serve_metrics

from headrace.metrics import MetricSpec


@cache
def counter(spec: MetricSpec) -> serve_metrics.Counter:
    return serve_metrics.Counter(spec.name, description=spec.description, tag_keys=spec.labels)


@cache
def gauge(spec: MetricSpec) -> serve_metrics.Gauge:
    return serve_metrics.Gauge(spec.name, description=spec.description, tag_keys=spec.labels)


@cache
def histogram(spec: MetricSpec) -> serve_metrics.Histogram:
    return serve_metrics.Histogram(
        spec.name, description=spec.description, boundaries=list(spec.buckets), tag_keys=spec.labels
    )
