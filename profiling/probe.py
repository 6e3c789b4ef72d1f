"""What passes through a model while it is profiled: times of requests and batches, never what they hold."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, ParamSpec, TypeVar

import numpy as np

from headrace.tensors import Array
from profiling.ranges import Ranges

MOST = 4_000_000  # requests that are kept, 16 bytes each: more than a process answers in the longest profile
POINTS = 60  # in a timeline, at most
_SHORTEST_S = 0.5  # between two points

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Traffic:
    """What was asked meanwhile; latencies are None when nothing was answered."""

    seconds: float
    requests: int
    failed: int
    batches: int
    rows: int
    fill: float | None  # mean share of a batch that is no padding
    batch_s: float | None  # mean
    p50_s: float | None  # of requests, as the model's batcher sees them
    p95_s: float | None
    p99_s: float | None

    def told(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(slots=True)
class Probe:
    """Told of all that a model does; with `ranges` it also marks batches and their steps for a tool."""

    ranges: Ranges | None = None
    clock: Callable[[], float] = time.perf_counter
    started: float = field(init=False)
    failed: int = 0
    _ended: array[float] = field(default_factory=lambda: array("d"))  # of each request: when, seconds taken
    _ran: array[float] = field(default_factory=lambda: array("d"))  # of each batch: when, rows, fill, seconds
    _more: int = 0

    def __post_init__(self) -> None:
        self.started = self.clock()

    def mark(self, name: str, function: Callable[P, R]) -> Callable[P, R]:
        """The same function, its calls within a range of this name where ranges are wanted."""
        ranges = self.ranges
        if ranges is None:
            return function

        def marked(*args: P.args, **kwargs: P.kwargs) -> R:
            with ranges.within(name):
                return function(*args, **kwargs)

        return marked

    @contextmanager
    def request(self) -> Iterator[None]:
        """Around one request, from its arrival at the batcher to its answer."""
        begun = self.clock()
        try:
            if self.ranges is None:
                yield
            else:
                with self.ranges.across("request"):
                    yield
        except BaseException:
            self.failed += 1
            raise
        now = self.clock()
        if len(self._ended) < 2 * MOST:
            self._ended.extend((now - self.started, now - begun))
        else:
            self._more += 1

    def batch(self, rows: int, fill: float, ran_s: float) -> None:
        """One that has run."""
        if len(self._ran) < 4 * MOST:
            self._ran.extend((self.clock() - self.started, rows, fill, ran_s))

    def traffic(self, seconds: float) -> Traffic:
        """All of it in a few figures."""
        ended, ran = _table(self._ended, 2), _table(self._ran, 4)
        return Traffic(
            seconds,
            len(ended) + self._more,
            self.failed,
            len(ran),
            int(ran[:, 1].sum()),
            _mean(ran[:, 2]),
            _mean(ran[:, 3]),
            *percentiles(ended[:, 1]),
        )

    def timeline(self, seconds: float) -> list[dict[str, float | None]]:
        """The same over time: a point each half second, or as many as there are POINTS for."""
        step_s = max(_SHORTEST_S, seconds / POINTS)
        ended, ran = _table(self._ended, 2), _table(self._ran, 4)
        of_ended, of_ran = np.floor(ended[:, 0] / step_s), np.floor(ran[:, 0] / step_s)
        points: list[dict[str, float | None]] = []
        for n in range(max(1, round(seconds / step_s))):
            taken, some = ended[of_ended == n, 1], ran[of_ran == n]
            p50_s, p95_s, p99_s = percentiles(taken)
            points.append(
                {
                    "at_s": (n + 1) * step_s,
                    "requests_per_s": len(taken) / step_s,
                    "rows_per_s": float(some[:, 1].sum()) / step_s,
                    "p50_s": p50_s,
                    "p95_s": p95_s,
                    "p99_s": p99_s,
                    "batch_rows": _mean(some[:, 1]),
                    "batch_fill": _mean(some[:, 2]),
                    "batch_s": _mean(some[:, 3]),
                }
            )
        return points


def percentiles(seconds: Array) -> tuple[float | None, float | None, float | None]:
    """P50, P95 and P99; None of nothing."""
    if not len(seconds):
        return None, None, None
    p50, p95, p99 = np.percentile(seconds, (50, 95, 99))
    return float(p50), float(p95), float(p99)


def _mean(values: Array) -> float | None:
    return float(values.mean()) if len(values) else None


def _table(numbers: array[float], columns: int) -> Array:
    """A copy, since more may come meanwhile."""
    return np.array(numbers).reshape(-1, columns)
