"""When requests came: a log of arrivals, read, made faster or denser (pure)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from headrace.errors import CallerError
from headrace.rows import rows_of
from headrace.tensors import Array

_COLUMNS = "time, and rows where they are known"


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Requests by the time of their arrival, in seconds since the first."""

    times: Array  # float64, ascending
    rows: Array = field(default_factory=lambda: np.zeros(0, np.int64))  # of each; none: one each

    @property
    def seconds(self) -> float:
        return float(self.times[-1]) if len(self.times) else 0.0

    def scaled(self, speed: float = 1.0, rate: float = 1.0, seed: int = 0) -> Trace:
        """The same `speed` times as fast, with `rate` times as many requests.

        Another number of requests is drawn anew: each falls between two neighbours of the log by chance, so
        that bursts and lulls stay where they were.
        """
        times, rows = self.times / speed, self.rows
        if rate != 1.0:
            count = max(1, round(len(times) * rate))
            places = np.sort(np.random.default_rng(seed).uniform(0, len(times) - 1, count))
            times = np.interp(places, np.arange(len(times)), times)
            rows = rows[places.astype(np.int64)] if len(rows) else rows
        return Trace(times, rows)


def read_trace(text: str) -> Trace:
    """Arrivals as CSV with a header, or as JSON lines: `time` in seconds, ascending, and `rows` where known.
    CallerError says which line is wrong."""
    lines = rows_of(text, "trace", "time", f": {_COLUMNS}")
    times: list[float] = []
    rows: list[int] = []
    for number, row in lines:
        at = _number(row, "time", None, number)
        count = _number(row, "rows", 1.0, number)
        if times and at < times[-1]:
            raise CallerError(
                f"line {number} of the trace: time {at:g} comes after {times[-1]:g}; sort the lines by time"
            )
        if count < 1 or count != int(count):
            raise CallerError(f"line {number} of the trace: rows is {count:g}; at least 1, and whole")
        times.append(at)
        rows.append(int(count))
    if not times:
        raise CallerError("the trace has no requests")
    return Trace(np.array(times) - times[0], np.array(rows, np.int64))


def _number(row: Mapping[str, object], column: str, usual: float | None, number: int) -> float:
    given = row.get(column)
    if given in (None, ""):
        if usual is None:
            raise CallerError(f"line {number} of the trace has no {column}; columns: {_COLUMNS}")
        return usual
    try:
        value = float(str(given))
    except ValueError as err:
        raise CallerError(f"line {number} of the trace: {column} is {given!r}, which is no number") from err
    if not math.isfinite(value):
        raise CallerError(f"line {number} of the trace: {column} is {given!r}; it must be finite")
    return value
