"""Spans to wherever OpenTelemetry's environment variables say, in batches on a thread of their own.

OpenTelemetry is imported here alone, and only once something is exported.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import socket
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from headrace import __version__
from headrace.errors import EngineUnavailable
from headrace.trace import TraceContext
from monitoring.background import Background
from monitoring.finished import Finished
from monitoring.spans import Span, request_spans

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

_log = logging.getLogger(__name__)

EXPORTER, DISABLED = "OTEL_TRACES_EXPORTER", "OTEL_SDK_DISABLED"
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_GROUP = "opentelemetry_traces_exporter"  # of entry points
_OTLP = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
_SPANS_OF_ONE = 6  # request
_MISSING = (
    "`tracing` needs OpenTelemetry, which is not installed: install headrace[trace], or take `tracing` out "
    f"of the configuration, or set {EXPORTER}=none"
)


def exporters_in(environment: Mapping[str, str]) -> list[str]:
    """The names of the exporters that the environment asks for; none: traces are off. OTLP unless told."""
    if environment.get(DISABLED, "").strip().lower() == "true":
        return []
    names = [name for part in environment.get(EXPORTER, "").split(",") if (name := part.strip().lower())]
    return [] if "none" in names else names or ["otlp"]


def endpoint_of(environment: Mapping[str, str]) -> str:
    """Where OTLP goes; by gRPC an endpoint needs no scheme."""
    protocol = next(filter(None, (environment.get(key) for key in PROTOCOLS)), "")
    usual = "http://localhost:4317" if protocol == "grpc" else "http://localhost:4318"
    found = next(filter(None, (environment.get(key) for key in ENDPOINTS)), usual)
    return found if "://" in found else f"http://{found}"


def without_secrets(url: str) -> str:
    """The scheme, the host and the path: what else a URL has may be a password or a key."""
    plain = url.partition("?")[0].partition("#")[0]
    scheme, _, rest = plain.rpartition("://")
    host, slash, path = rest.partition("/")
    if "@" in host:
        host = f"***@{host.rpartition('@')[2]}"
    return (f"{scheme}://" if scheme else "") + host + slash + path + ("?***" if plain != url else "")


def target_of(environment: Mapping[str, str]) -> str:
    """Where spans go, for people: "otlp to http://collector:4318"; "" when traces are off."""
    names = exporters_in(environment)
    shown = without_secrets(endpoint_of(environment))
    return ", ".join(f"otlp to {shown}" if name == "otlp" else name for name in names)


def check_installed(environment: Mapping[str, str]) -> None:
    """EngineUnavailable, with what to install, when an exporter that is asked for is not there."""
    names = exporters_in(environment)
    try:
        is_there = not names or importlib.util.find_spec("opentelemetry.sdk.trace") is not None
    except ModuleNotFoundError:
        is_there = False
    if not is_there:
        raise EngineUnavailable(_MISSING)
    for name in names:
        _entry(name, environment)


def _entry(name: str, environment: Mapping[str, str]) -> Any:
    key = name
    if name == "otlp":
        protocol = next(filter(None, (environment.get(key) for key in PROTOCOLS)), "http/protobuf")
        key = _OTLP.get(protocol, protocol)
    found = entry_points(group=_GROUP)
    for entry in found:
        if entry.name == key:
            return entry
    if name == "otlp" and key == "otlp_proto_http":
        raise EngineUnavailable(_MISSING)
    known = sorted({"otlp", "none", *found.names} - {"otlp_proto_http"})
    raise EngineUnavailable(
        f"{EXPORTER} (with {PROTOCOLS[1]}) asks for the exporter {key!r}, which is not installed; "
        f"there are: {', '.join(known)}"
    )


class Traces:
    """Takes spans from any thread. A target that cannot be reached costs spans, which are counted, never a
    request; it is told once, and once more when it is back."""

    def __init__(self, exporters: Sequence[SpanExporter], resource: Any, environment: Mapping[str, str]):
        self._exporters = exporters
        self._written = _Written(resource)
        self._failing = False
        self.failed = 0  # requests and batches of which no target took the spans, ever
        self._at_once = _whole(environment, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512)
        self._background = Background[Finished | Span](
            self._deliver,
            name="traces",
            most_waiting=_whole(environment, "OTEL_BSP_MAX_QUEUE_SIZE", 2048),
            most_at_once=max(1, self._at_once // _SPANS_OF_ONE),
            every_s=_whole(environment, "OTEL_BSP_SCHEDULE_DELAY", 5000) / 1000,
        )

    @property
    def lost(self) -> int:
        """Requests and batches that found no room, ever."""
        return self._background.lost

    def put(self, made: Finished | Span) -> None:
        """A request, of which the spans are made on the way, or a span."""
        self._background.put(made)

    def start(self) -> None:
        self._background.start()

    def close(self) -> None:
        self._background.close()
        for exporter in self._exporters:
            exporter.shutdown()

    def _deliver(self, batch: list[Finished | Span]) -> None:
        spans = [span for made in batch for span in _spans_of(made)]
        parts = range(0, len(spans), self._at_once)
        taken = [self._export(spans[start : start + self._at_once]) for start in parts]
        if not all(taken):
            self.failed += len(batch)

    def _export(self, spans: list[Span]) -> bool:
        from opentelemetry.sdk.trace.export import SpanExportResult

        why = ""
        try:
            readable = [self._written(span) for span in spans]
            results = [exporter.export(readable) for exporter in self._exporters]
            is_taken = all(result is SpanExportResult.SUCCESS for result in results)
        except Exception as err:  # of whoever else's exporter it is
            is_taken, why = False, f" ({type(err).__name__})"
        if self._failing == is_taken:
            self._failing = not is_taken
            if is_taken:
                _log.warning(f"traces are taken again; those of {self.failed} requests and batches are lost")
            else:
                _log.warning(f"traces cannot be delivered{why}: {target_of(os.environ)}; requests go on")
        return is_taken


def _spans_of(made: Finished | Span) -> list[Span]:
    return [made] if isinstance(made, Span) else request_spans(made)


def open_traces(environment: Mapping[str, str], process: Mapping[str, str]) -> Traces | None:
    """What sends spans to every target the environment names, as `process`. None: traces are off."""
    names = exporters_in(environment)
    if not names:
        return None
    check_installed(environment)
    from opentelemetry.sdk.resources import Resource

    # It says for each batch that nobody takes what we say once.
    logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
    exporters = [_entry(name, environment).load()() for name in names]
    resource = Resource.create({"host.name": socket.gethostname(), "process.pid": os.getpid(), **process})
    if str(resource.attributes.get("service.name", "")).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": "headrace"}))
    if "service.version" not in resource.attributes:
        resource = resource.merge(Resource({"service.version": __version__}))
    return Traces(exporters, resource, environment)


class _Written:
    """Spans as OpenTelemetry's exporters take them; its classes are looked up once."""

    def __init__(self, resource: Any) -> None:
        from opentelemetry import trace
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        self._api = trace
        self._span = ReadableSpan
        self._resource = resource
        self._scope = InstrumentationScope("headrace", __version__)
        self._flags = {is_sampled: trace.TraceFlags(int(is_sampled)) for is_sampled in (False, True)}
        self._no_state = trace.TraceState()
        self._fine = trace.Status(trace.StatusCode.UNSET)

    def __call__(self, span: Span) -> Any:
        api = self._api
        return self._span(
            span.name,
            self._context(span.context, is_remote=False),
            None if span.parent is None else self._context(span.parent, is_remote=span.is_parent_remote),
            self._resource,
            span.attributes,
            links=[api.Link(self._context(link, is_remote=True)) for link in span.links],
            kind=api.SpanKind.SERVER if span.kind == "server" else api.SpanKind.INTERNAL,
            status=api.Status(api.StatusCode.ERROR, span.error) if span.error else self._fine,
            start_time=span.start_ns,
            end_time=span.end_ns,
            instrumentation_scope=self._scope,
        )

    def _context(self, context: TraceContext, *, is_remote: bool) -> Any:
        return self._api.SpanContext(
            context.trace_id,
            context.span_id,
            is_remote,
            self._flags[context.is_sampled],
            self._api.TraceState.from_header([context.state]) if context.state else self._no_state,
        )


def _whole(environment: Mapping[str, str], name: str, usual: int) -> int:
    """A whole number above 0 from the environment; by the specification a wrong one is told and ignored."""
    text = environment.get(name, "").strip()
    if not text:
        return usual
    if text.isdecimal() and int(text) > 0:
        return int(text)
    _log.warning(f"{name} is {text!r}, which is no whole number above 0: it counts as {usual}")
    return usual
