"""The ports that a server would listen on."""

from __future__ import annotations

from collections.abc import Iterator

from deployments.doctor.check import Check, bad, ok, warn
from deployments.ports import holder
from headrace.config import Config, HttpConfig

_FRONT = "haproxy"


def checks(config: Config | None) -> Iterator[Check]:
    http = HttpConfig() if config is None else config.http
    yield port(http.port, "http.port (or --port)", holder(http.port))
    if config is not None and config.grpc is not None:
        yield port(config.grpc.port, "grpc.port (or --grpc-port)", holder(config.grpc.port))


def port(number: int, setting: str, who: str | None) -> Check:
    title = f"port {number}"
    if who is None:
        return ok(title, "free")
    if who.startswith(_FRONT):
        advice = f"most likely a server runs already (headrace status); for a second one set {setting}"
        return warn(title, f"held by {who}", advice)
    return bad(title, f"held by {who}", f"end that process, or set {setting}")
