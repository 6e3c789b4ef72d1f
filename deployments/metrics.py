"""The metrics of headrace.metrics on Ray's Prometheus port.

A value is noted when it is seen and handed to Ray a moment later, together with others: one at a time, in the
midst of a request, each takes Ray's code into the CPU's cache anew and costs several times as much.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from functools import cache
from typing import Protocol

from ray.serve import metrics as serve_metrics

from headrace.metrics import QUEUE_DEPTH, TRAFFIC, MetricSpec

_log = logging.getLogger(__name__)

QUEUE_REPORT_S = 1.0
_HAND_OVER_S = 0.1
_AT_ONCE = 64  # values; then requests have their turn

_is_on = True
_values: deque[tuple[MetricSpec, float, tuple[str, ...]]] = deque(maxlen=1 << 16)
_counts: dict[tuple[MetricSpec, tuple[str, ...]], float] = {}


class Queued(Protocol):
    @property
    def num_waiting_rows(self) -> int: ...


def turn_off() -> None:
    """From now on nothing is noted in this process; what is told each second still is."""
    global _is_on
    _is_on = False


def observe(spec: MetricSpec, value: float, labels: tuple[str, ...]) -> None:
    """Note a value of a histogram; `labels` are in the order of the metric's own."""
    if _is_on:
        _values.append((spec, value, labels))


def count(spec: MetricSpec, labels: tuple[str, ...] = (), by: float = 1) -> None:
    """Note so much more; `labels` are in the order of the metric's own."""
    if not _is_on:
        return
    _counts[spec, labels] = _counts.get((spec, labels), 0) + by


def gauge(spec: MetricSpec, value: float, labels: tuple[str, ...] = ()) -> None:
    """Set it; `labels` are in the order of the metric's own. For what is told once a second."""
    _gauge(spec).set(value, tags=dict(zip(spec.labels, labels, strict=True)))


def _no_shares() -> Mapping[tuple[str, str], float]:
    return {}


def _nothing() -> None:
    pass


async def report(
    queues: Mapping[tuple[str, str], Queued],
    shares: Callable[[], Mapping[tuple[str, str], float]] = _no_shares,
    tick: Callable[[], None] = _nothing,
    each_second: Callable[[], None] = _nothing,
) -> None:
    """Hand over what was noted, and each second the queue depth and the share of requests of each (model,
    version), until cancelled. `tick` is called with each hand-over."""
    due = 0.0
    told: set[tuple[str, str]] = set()
    loop = asyncio.get_running_loop()
    while True:
        if loop.time() >= due:
            due = loop.time() + QUEUE_REPORT_S
            try:
                each_second()
            except Exception:  # a driver that fails, say: what requests noted is handed over all the same
                _log.exception("what is told each second could not be")
            for (model, version), queued in queues.items():
                tags = {"model": model, "version": version}
                _gauge(QUEUE_DEPTH).set(queued.num_waiting_rows, tags=tags)
            found = shares()
            for model, version in found.keys() | told:  # a gauge keeps its value until it is told another
                tags = {"model": model, "version": version}
                _gauge(TRAFFIC).set(found.get((model, version), 0.0), tags=tags)
            told |= found.keys()
            _hand_over_counts()
        tick()
        await _hand_over_values()
        await asyncio.sleep(_HAND_OVER_S)


def _hand_over_counts() -> None:
    counts = dict(_counts)
    _counts.clear()
    for (spec, labels), number in counts.items():
        if number:
            _counter(spec).inc(number, tags=dict(zip(spec.labels, labels, strict=True)))


async def _hand_over_values() -> None:
    values = list(_values)
    _values.clear()
    for number, (spec, value, labels) in enumerate(values, start=1):
        _histogram(spec).observe(value, tags=dict(zip(spec.labels, labels, strict=True)))
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)


@cache
def _counter(spec: MetricSpec) -> serve_metrics.Counter:
    return serve_metrics.Counter(spec.name, description=spec.description, tag_keys=spec.labels)


@cache
def _gauge(spec: MetricSpec) -> serve_metrics.Gauge:
    return serve_metrics.Gauge(spec.name, description=spec.description, tag_keys=spec.labels)


@cache
def _histogram(spec: MetricSpec) -> serve_metrics.Histogram:
    return serve_metrics.Histogram(
        spec.name, description=spec.description, boundaries=list(spec.buckets), tag_keys=spec.labels
    )
