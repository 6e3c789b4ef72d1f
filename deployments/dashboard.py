"""The live page over HTTP: its files, the figures as they come, and versions' optimization reports."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Callable, Mapping
from functools import cache
from pathlib import Path

from deployments.viewers import Viewers
from engines.artifact import Repository
from headrace.config import Config
from headrace.errors import NotFound
from protocol.limits import shown

_FOLDER = Path(__file__).resolve().with_name("web")
PAGE = "page.html"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# Only what this server gives, and nothing written into the page: not even a name that contains a script.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
# A report comes out of a model's artifact, so it is shown as if it came from somewhere else.
REPORT_POLICY = (
    "sandbox allow-popups; default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SAFE = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}
_EVENTS = {
    "content-type": "text/event-stream",
    "cache-control": "no-store",
    "x-accel-buffering": "no",  # whoever stands between is not to wait for more
}
OFF = NotFound(
    "the live page and its figures are off here; dashboard: true in the configuration turns them on"
)

UNMEASURED = NotFound(
    "nothing is measured here, so there is no live page: the configuration says monitoring: false"
)

Answer = tuple[int, Mapping[str, str], list[bytes | memoryview]]


class Dashboard:
    """What a gateway shows to whoever can reach it; acting takes the token of `deployments.admin`."""

    def __init__(self, config: Config, repository: Repository, viewers: Viewers) -> None:
        self._is_on = config.dashboard
        self._is_measured = config.monitoring
        self._models = frozenset(config.models)
        self._repository = repository
        self._viewers = viewers

    def check(self) -> None:
        """NotFound where the configuration has it turned off."""
        if not self._is_on:
            raise OFF

    def file(self, name: str, known: str = "") -> Answer:
        """The page (`name` empty) or a file of it; 304 when the caller has it (`known`, If-None-Match)."""
        self._check_measured()
        found = _files().get(name or PAGE)
        if found is None:
            raise NotFound(f"the live page has no file {shown(name)}")
        data, kind, tag = found
        headers = {"etag": tag, "cache-control": "no-cache", "content-security-policy": POLICY, **_SAFE}
        if tag in {entry.strip().removeprefix("W/") for entry in known.split(",")}:
            return 304, headers, []
        return 200, {**headers, "content-type": kind}, [data]

    def report(self, model: str, version: str) -> Answer:
        """The optimization report of a version, as it was published; NotFound where there is none."""
        self.check()
        if model not in self._models:
            raise NotFound(f"no model {model!r}; served here: {', '.join(sorted(self._models))}")
        page = self._repository.report(model, version)
        if page is None:
            raise NotFound(
                f"version {version!r} of {model!r} has no optimization report; headrace optimize makes one"
            )
        kind = {"content-type": _TYPES[".html"], "cache-control": "no-cache"}
        return 200, {**kind, "content-security-policy": REPORT_POLICY, **_SAFE}, [page]

    def events(self, is_ending: Callable[[], bool]) -> tuple[int, Mapping[str, str], AsyncGenerator[bytes]]:
        """The figures as they come, until `is_ending`. What is wrong is raised before the first part."""
        self._check_measured()
        return 200, {**_EVENTS, **_SAFE}, self._viewers.events(is_ending)

    def _check_measured(self) -> None:
        self.check()
        if not self._is_measured:
            raise UNMEASURED


@cache
def _files() -> Mapping[str, tuple[bytes, str, str]]:
    """Of each file of the page: what it holds, its type, its tag."""
    found = {}
    for path in sorted(_FOLDER.iterdir()):
        if kind := _TYPES.get(path.suffix):
            data = path.read_bytes()
            found[path.name] = (data, kind, f'"{hashlib.sha256(data).hexdigest()[:32]}"')
    return found
