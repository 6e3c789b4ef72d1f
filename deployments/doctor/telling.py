"""Traces and logs: what is on, whether it is installed, and whether somebody takes the spans."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from deployments import logs, tracing
from deployments.doctor.check import Check, bad, ok, unless
from headrace.config import Config
from headrace.errors import EngineUnavailable
from monitoring.traces import endpoint_of, exporters_in

_PATIENCE_S = 2.0


def checks(config: Config | None) -> Iterator[Check]:
    if config is None:
        return
    yield from traces(config, os.environ)
    yield ok("logs", logs.in_words(config.logs))


def traces(config: Config, environment: Mapping[str, str]) -> Iterator[Check]:
    told = tracing.in_words(config.tracing, environment)
    if not told:
        is_wanted = config.tracing is not None
        yield ok("traces", "off, as OpenTelemetry's variables say" if is_wanted else "off (tracing: {})")
        return
    try:
        tracing.check_tracing(config.tracing)
    except EngineUnavailable as err:
        yield bad("traces", "cannot be sent", str(err))
        return
    yield ok("traces", told)
    if "otlp" in exporters_in(environment):
        yield collector(endpoint_of(environment))


def collector(endpoint: str) -> Check:
    """Whether somebody listens there; nothing is sent."""
    parts = urlsplit(endpoint)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((host, port), _PATIENCE_S).close()
        is_there = True
    except OSError:
        is_there = False
    advice = "start it, or set OTEL_EXPORTER_OTLP_ENDPOINT; until then requests go on and spans are lost"
    return unless(
        is_there, "warn", "collector", f"{host}:{port} " + ("answers" if is_there else "is silent"), advice
    )
