"""Log lines as JSON: of the program, and one of each request that the configuration asks for.

They hold names, numbers and times that are ours. What callers send (tensors, headers, the text of an error
that quotes them) is in none, except for the request's id, which is bounded.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from random import random
from typing import Any, Literal

import orjson

from headrace.config import LogsConfig
from monitoring.finished import Finished

LONGEST_REQUEST_ID = 128
Level = Literal["INFO", "WARNING", "ERROR"]


class JsonFormatter(logging.Formatter):
    """A record of Python's logging as one line of JSON; `where` says which process."""

    def __init__(self, where: Mapping[str, str]) -> None:
        super().__init__()
        self._where = dict(where)

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, Any] = {
            "time": rfc3339(record.created),
            "level": record.levelname,
            "message": record.getMessage(),
            "logger": record.name,
            **self._where,
        }
        if record.exc_info and record.exc_info[1] is not None:
            told["exception"] = "".join(traceback.format_exception(record.exc_info[1]))
        return orjson.dumps(told, option=orjson.OPT_NON_STR_KEYS, default=str).decode()


def rfc3339(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def level_of(finished: Finished, slower_than_s: float) -> Level:
    """ERROR: it failed by no fault of the caller; WARNING: it was refused or slow."""
    if finished.status >= 500:
        return "ERROR"
    return "WARNING" if finished.status >= 400 or finished.took_s >= slower_than_s else "INFO"


def line_of(finished: Finished, level: Level, where: Mapping[str, str]) -> bytes:
    """One request as a line of JSON, its end included."""
    told: dict[str, Any] = {
        "time": rfc3339(finished.started + finished.took_s),
        "level": level,
        "message": "request",
        "request_id": finished.request_id,
        "model": finished.model,
        "version": finished.version,
        "variant": finished.variant,
        "way": finished.way,
        "status": finished.status,
        "error": finished.error,
        "tier": finished.tier,
        "rows": finished.rows,
        "batch_rows": finished.batch_rows,
        "bytes_in": finished.bytes_in,
        "bytes_out": finished.bytes_out,
        "took_ms": round(finished.took_s * 1000, 3),
        "stages_ms": {stage: round(took_s * 1000, 3) for stage, took_s in finished.stages},
        **where,
    }
    if finished.context is not None:
        told["trace_id"] = f"{finished.context.trace_id:032x}"
    return orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE)


class Choice:
    """Which requests have a line."""

    def __init__(self, config: LogsConfig, chance: Callable[[], float] = random) -> None:
        self._requests = config.requests
        self._sample = config.sample
        self._chance = chance
        self.slower_than_s = config.slower_than_ms / 1000

    @property
    def is_any(self) -> bool:
        return self._requests != "none"

    def takes(self, took_s: float, status: int) -> bool:
        if self._requests == "none":
            return False
        if status >= 400:
            return True
        if self._requests == "errors":
            return False
        if took_s >= self.slower_than_s:
            return True
        return self._requests == "all" and (self._sample >= 1 or self._chance() < self._sample)


def printable(request_id: str) -> str:
    """A request's id as a caller may give it: bounded, and of printable ASCII."""
    cut = request_id[:LONGEST_REQUEST_ID]
    return cut if cut.isascii() and cut.isprintable() else "".join(_plain(letter) for letter in cut)


def _plain(letter: str) -> str:
    return letter if letter.isascii() and letter.isprintable() else "?"
