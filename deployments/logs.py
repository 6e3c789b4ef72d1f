"""What a gateway, a replica or the monitor writes: into the file that Serve keeps and rotates for it.

Serve's loggers go there by themselves. All others would go to standard error, which Serve turns into lines of
a level below the one it writes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from logging.handlers import MemoryHandler
from typing import Literal

from ray import serve

from headrace.config import LogsConfig
from monitoring.background import Background
from monitoring.finished import Finished
from monitoring.logs import Choice, JsonFormatter, level_of, line_of

Process = Literal["gateway", "replica", "monitor"]
_REQUESTS = "headrace.requests"  # records of this name hold lines as they are
_MOST_WAITING = 8192  # lines
_AT_ONCE = 256
_EVERY_S = 0.2
_SERVES_FOLDER = "/tmp/ray/session_latest/logs/serve"  # noqa: S108 - where Ray puts it, for people to read


class _WithLines(logging.Formatter):
    """As another one, except for what is a line already."""

    def __init__(self, other: logging.Formatter) -> None:
        super().__init__()
        self._other = other

    def format(self, record: logging.LogRecord) -> str:
        return str(record.msg) if record.name == _REQUESTS else self._other.format(record)


def whereabouts(process: Process) -> dict[str, str]:
    """Which process this is, for whoever reads lines or spans of many."""
    try:
        context = serve.get_replica_context()
    except Exception:  # not in a replica
        return {"process": process}
    return {"process": process, "application": context.app_name, "replica": context.replica_id.unique_id}


def in_words(config: LogsConfig) -> str:
    """What is written and where, in a line."""
    requests = {
        "none": "no line of a request",
        "errors": "a line of each request that fails",
        "slow": f"a line of each request that fails or takes {config.slower_than_ms:g} ms",
        "all": "a line of each request",
    }[config.requests]
    if config.sample < 1:
        requests = f"a line of {config.sample:.4g} of the requests, and of those that fail or are slow"
    return f"{config.folder or _SERVES_FOLDER}, as {config.format}, {requests}"


def set_up(config: LogsConfig, process: Process) -> logging.Handler | None:
    """Have all of this process's warnings written to Serve's file, as text or as JSON; the handler that does.
    None outside Serve."""
    handler = _file_of_serve()
    if handler is None:
        return None
    usual = handler.formatter or logging.Formatter()
    inner = usual._other if isinstance(usual, _WithLines) else usual
    handler.setFormatter(
        _WithLines(JsonFormatter(whereabouts(process)) if config.format == "json" else inner)
    )
    root = logging.getLogger()
    if handler not in root.handlers:
        root.addHandler(handler)
    return handler


def _file_of_serve() -> logging.Handler | None:
    for handler in logging.getLogger("ray.serve").handlers:
        if isinstance(handler, MemoryHandler) and handler.target is not None:
            return handler.target  # past the buffer: nobody wants to wait for a thousand warnings
    return None


class RequestLog:
    """Lines of JSON for the requests that the configuration names, written a moment later."""

    def __init__(self, config: LogsConfig, handler: logging.Handler | None, where: Mapping[str, str]) -> None:
        self.choice = Choice(config)
        self._handler = handler
        self._where = dict(where)
        self._background = Background[Finished](
            self._write,
            name="request log",
            most_waiting=_MOST_WAITING,
            most_at_once=_AT_ONCE,
            every_s=_EVERY_S,
        )

    @property
    def lost(self) -> int:
        """Lines that found no room, ever."""
        return self._background.lost

    def start(self) -> None:
        self._background.start()

    def put(self, finished: Finished) -> None:
        self._background.put(finished)

    def close(self) -> None:
        self._background.close()

    def _write(self, batch: list[Finished]) -> None:
        if self._handler is None:
            return
        slower_than_s = self.choice.slower_than_s
        lines = [line_of(one, level_of(one, slower_than_s), self._where) for one in batch]
        text = b"".join(lines).decode().rstrip("\n")
        self._handler.handle(logging.LogRecord(_REQUESTS, logging.INFO, "", 0, text, None, None))
