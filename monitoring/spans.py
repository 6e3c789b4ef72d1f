"""Spans of a finished request and of a batch, made of their times after the fact (pure)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from headrace.trace import TraceContext, new_span_id, new_trace_id, parse
from monitoring.finished import Finished

Value = str | int | float | bool
SPANS = ("decode", "cache", "queue", "engine", "encode")  # stages with a span of their own
_SERVICE = "inference.GRPCInferenceService"
_GRPC = {200: 0, 400: 3, 404: 5, 413: 8, 429: 8, 503: 14, 504: 4}  # status codes, by HTTP's


@dataclass(frozen=True, slots=True)
class Span:
    """As OpenTelemetry has it; times in nanoseconds since 1970."""

    name: str
    kind: Literal["server", "internal"]
    context: TraceContext
    parent: TraceContext | None
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Value]
    links: tuple[TraceContext, ...] = ()
    error: str = ""
    is_parent_remote: bool = False


@dataclass(frozen=True, slots=True)
class BatchRan:
    """A batch that ran, and the span of each request in it."""

    model: str
    version: str
    group: str
    rows: int
    fill: float
    ended: float  # Unix time
    ran_s: float
    requests: tuple[TraceContext, ...]


def request_spans(finished: Finished, new_id: Callable[[], int] = new_span_id) -> list[Span]:
    """The span of a request, then those of its stages, one after the other, each as long as was measured.
    What "wire" took is before the first, except for the way to a replica and back: that is around the engine.
    """
    assert finished.context is not None
    context = replace(finished.context, is_sampled=True)
    start_ns = round(finished.started * 1e9)
    server = Span(
        f"infer {finished.model}".rstrip(),
        "server",
        context,
        finished.parent,
        start_ns,
        start_ns + round(finished.took_s * 1e9),
        _attributes(finished),
        error=finished.error if finished.status >= 500 else "",
        is_parent_remote=finished.parent is not None,
    )
    spans = [server]
    at_ns = start_ns
    for stage, took_s in finished.stages:
        if stage == "wire":
            took_s = max(0.0, took_s - finished.hop_s)
        if stage in ("pad", "encode"):
            at_ns = min(at_ns + round(finished.hop_s * 5e8), server.end_ns)
        end_ns = at_ns + round(took_s * 1e9)
        if took_s > 0 and stage in SPANS:
            child = TraceContext(context.trace_id, new_id(), True, context.state)
            links: tuple[TraceContext, ...] = ()
            attributes: dict[str, Value] = {}
            if stage == ("cache" if finished.tier == "flight" else "engine"):
                links = tuple(filter(None, map(parse, finished.batches)))
                attributes["headrace.batch_rows"] = finished.batch_rows
            if stage == "cache":
                attributes["headrace.tier"] = finished.tier
            spans.append(
                Span(stage, "internal", child, context, at_ns, min(end_ns, server.end_ns), attributes, links)
            )
        at_ns = min(end_ns, server.end_ns)
    return spans


def batch_context(is_sampled: bool = True) -> TraceContext:
    """A batch is a trace of its own: its requests belong to many."""
    return TraceContext(new_trace_id(), new_span_id(), is_sampled)


def batch_span(batch: BatchRan, context: TraceContext) -> Span:
    end_ns = round(batch.ended * 1e9)
    return Span(
        f"batch {batch.model}",
        "internal",
        context,
        None,
        end_ns - round(batch.ran_s * 1e9),
        end_ns,
        {
            "headrace.model": batch.model,
            "headrace.version": batch.version,
            "headrace.group": batch.group,
            "headrace.batch_rows": batch.rows,
            "headrace.fill": round(batch.fill, 4),
            "headrace.batch_requests": len(batch.requests),
        },
        batch.requests,
    )


def _attributes(finished: Finished) -> dict[str, Value]:
    told: dict[str, Value] = {
        "headrace.model": finished.model,
        "headrace.version": finished.version,
        "headrace.tier": finished.tier,
        "headrace.rows": finished.rows,
        "headrace.batch_rows": finished.batch_rows,
    }
    optional = {"headrace.variant": finished.variant, "headrace.request_id": finished.request_id}
    told |= {key: value for key, value in optional.items() if value}
    told |= {f"headrace.{stage}_s": took_s for stage, took_s in finished.stages if stage not in SPANS}
    if finished.error:
        told["error.type"] = finished.error
    return told | _of_protocol(finished)


def _of_protocol(finished: Finished) -> dict[str, Value]:
    """By OpenTelemetry's semantic conventions."""
    if finished.way == "http":
        return {
            "http.request.method": "POST",
            "http.route": "/v2/models/{model}/infer",
            "http.response.status_code": finished.status,
            "url.path": f"/v2/models/{finished.model}/infer",
            "url.scheme": "http",
        }
    if finished.way == "grpc":
        return {
            "rpc.system": "grpc",
            "rpc.service": _SERVICE,
            "rpc.method": "ModelInfer",
            "rpc.grpc.status_code": _GRPC.get(finished.status, 3 if finished.status < 500 else 13),
        }
    return {"rpc.system": "ray", "rpc.method": "infer"}
