"""Traces in one process: what is on, and the spans of batches."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from batching.execute import Answer, Batch, Result
from batching.queue import Item
from deployments import metrics
from deployments.logs import Process, RequestLog, whereabouts
from headrace.config import TracingConfig
from headrace.metrics import LOG_LINES_LOST, TRACES_LOST, MetricSpec
from headrace.trace import TraceContext, Traced
from monitoring.sampling import SAMPLER, Allowance, Rules, rules_of
from monitoring.spans import BatchRan, batch_context, batch_span
from monitoring.traces import Traces, check_installed, exporters_in, open_traces, target_of

_log = logging.getLogger(__name__)

_REPORT_S = 1.0


class Tracing:
    """Where spans of this process go, and which requests have any."""

    def __init__(self, rules: Rules, kept_per_s: float, traces: Traces) -> None:
        self.rules = rules
        self.traces = traces
        self.left_out = 0  # slow and failed ones beyond the allowance, ever
        self._allowance = Allowance(kept_per_s)

    def may_keep(self, now: float) -> bool:
        """Whether one that was chosen afterwards may be kept; `now` is the monotonic clock's."""
        is_allowed = self._allowance.take(now)
        self.left_out += not is_allowed
        return is_allowed

    def close(self) -> None:
        self.traces.close()


def open_tracing(config: TracingConfig | None, process: Process) -> Tracing | None:
    """None when traces are off, by the configuration or by OpenTelemetry's variables. EngineUnavailable when
    what they need is not installed."""
    if config is None:
        return None
    where = {f"headrace.{key}": value for key, value in whereabouts(process).items()}
    traces = open_traces(os.environ, where)
    if traces is None:
        return None
    rules, problem = rules_of(config, os.environ)
    if problem:
        _log.warning(problem)
    traces.start()
    return Tracing(rules, config.kept_per_s, traces)


async def report_losses(tracing: Tracing | None, log: RequestLog | None = None) -> None:
    """Count each second what was to be told and could not be, until cancelled."""
    told: dict[tuple[MetricSpec, tuple[str, ...]], int] = {}
    while True:
        found: dict[tuple[MetricSpec, tuple[str, ...]], int] = {}
        if tracing is not None:
            found[TRACES_LOST, ("full",)] = tracing.traces.lost
            found[TRACES_LOST, ("undelivered",)] = tracing.traces.failed
            found[TRACES_LOST, ("allowance",)] = tracing.left_out
        if log is not None:
            found[LOG_LINES_LOST, ()] = log.lost
        for (spec, labels), number in found.items():
            if more := number - told.get((spec, labels), 0):
                metrics.count(spec, labels, more)
        told = found
        await asyncio.sleep(_REPORT_S)


def check_tracing(config: TracingConfig | None) -> None:
    """EngineUnavailable, with what to install, when traces are on and what they need is not there."""
    if config is not None:
        check_installed(os.environ)


def in_words(config: TracingConfig | None, environment: Mapping[str, str]) -> str:
    """What is traced and where it goes, in a line; "" when nothing is."""
    if config is None or not exporters_in(environment):
        return ""
    rules, problem = rules_of(config, environment)
    undecided = " whose caller has not decided it" if rules.follows_parent else ""
    by = f" (by {SAMPLER})" if environment.get(SAMPLER) else ""
    told = [f"{rules.rate:.4g} of the requests{undecided}{by}"]
    if rules.slower_than_s is not None:
        told.append(f"those that take {rules.slower_than_s * 1000:g} ms or more")
    told.append("and failures")
    return f"{', '.join(told)} -> {target_of(environment)}" + (f"; {problem}" if problem else "")


# Of a request that travels to a replica: trace, span, whether it is sampled, and the seconds since it came.
Packed = tuple[int, int, bool, float]


def packed(traced: Traced, now: float) -> Packed:
    """`now` is the monotonic clock's, here and below."""
    context = traced.context
    return context.trace_id, context.span_id, context.is_sampled, now - traced.began


def unpacked(found: Packed, now: float) -> Traced:
    trace_id, span_id, is_sampled, since_s = found
    return Traced(TraceContext(trace_id, span_id, is_sampled), now - since_s)


class BatchSpans:
    """Gives batches a span, which links to each request in it. It is sent when one of those is traced: from
    its start, or since it is slow by the time that its batch has run."""

    def __init__(self, tracing: Tracing, model: str, version: str) -> None:
        self._tracing = tracing
        self._model = model
        self._version = version

    def noted(self, items: Sequence[Item], results: list[Result]) -> list[Result]:
        """The results, each of which tells the span of its batch (on the engine's thread)."""
        if not any(item.trace for item in items):
            return results
        among: dict[int, list[Traced]] = {}
        for item, result in zip(items, results, strict=True):
            if isinstance(result, Answer) and item.trace is not None:
                among.setdefault(id(result.batch), []).append(item.trace)
        batches: dict[int, Batch] = {}
        told: list[Result] = []
        for result in results:
            if isinstance(result, Answer) and (requests := among.get(id(result.batch))):
                key = id(result.batch)  # what ran together stays one batch
                if key not in batches:
                    batches[key] = replace(result.batch, span=self._span(result.batch, requests))
                told.append(Answer(result.outputs, batches[key]))
            else:
                told.append(result)
        return told

    def _span(self, batch: Batch, requests: Sequence[Traced]) -> str:
        tracing, now = self._tracing, time.monotonic()
        is_kept = any(request.context.is_sampled for request in requests) or (
            any(tracing.rules.is_slow(now - request.began) for request in requests) and tracing.may_keep(now)
        )
        context = batch_context(is_kept)
        if is_kept:
            ran = BatchRan(
                self._model,
                self._version,
                batch.group,
                batch.rows,
                batch.fill,
                time.time(),
                batch.ran_s,
                tuple(request.context for request in requests),
            )
            tracing.traces.put(batch_span(ran, context))
        return context.header()
