"""The metrics of headrace.metrics on Ray's Prometheus port."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import cache
from typing import Protocol

from ray.serve import metrics as serve_metrics

from headrace.metrics import QUEUE_DEPTH, MetricSpec

QUEUE_REPORT_S = 1.0


class Queued(Protocol):
    @property
    def num_waiting_rows(self) -> int: ...


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


async def report_queues(queues: Mapping[tuple[str, str], Queued]) -> None:
    """Set the queue depth of each (model, version) every second, until cancelled."""
    while True:
        for (model, version), queued in queues.items():
            tags = {"model": model, "version": version}
            gauge(QUEUE_DEPTH).set(queued.num_waiting_rows, tags=tags)
        await asyncio.sleep(QUEUE_REPORT_S)
