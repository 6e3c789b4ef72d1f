"""What passes through a model while it is profiled: times of requests and batches, never what they hold."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, ParamSpec, TypeVar

import numpy as np

from profiling.ranges import Ranges

MOST = 200_000  # requests and batches that are kept with their times; further ones are only counted
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
    _ended: list[tuple[float, float]] = field(default_factory=list)  # requests: when, and seconds taken
    _ran: list[tuple[float, int, float, float]] = field(default_factory=list)  # when, rows, fill, seconds
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
        if len(self._ended) < MOST:
            self._ended.append((now - self.started, now - begun))
        else:
            self._more += 1

    def batch(self, rows: int, fill: float, ran_s: float) -> None:
        """One that has run."""
        if len(self._ran) < MOST:
            self._ran.append((self.clock() - self.started, rows, fill, ran_s))

    def traffic(self, seconds: float) -> Traffic:
        """All of it in a few figures."""
        ended, ran = list(self._ended), list(self._ran)
        return Traffic(
            seconds,
            len(ended) + self._more,
            self.failed,
            len(ran),
            sum(entry[1] for entry in ran),
            _mean([entry[2] for entry in ran]),
            _mean([entry[3] for entry in ran]),
            *percentiles([taken_s for _, taken_s in ended]),
        )

    def timeline(self, seconds: float) -> list[dict[str, float | None]]:
        """The same over time: a point each half second, or as many as there are POINTS for."""
        step_s = max(_SHORTEST_S, seconds / POINTS)
        ended, ran = list(self._ended), list(self._ran)
        points: list[dict[str, float | None]] = []
        for n in range(max(1, round(seconds / step_s))):
            taken = [taken_s for at, taken_s in ended if n * step_s <= at < (n + 1) * step_s]
            some = [entry for entry in ran if n * step_s <= entry[0] < (n + 1) * step_s]
            p50_s, p95_s, p99_s = percentiles(taken)
            points.append(
                {
                    "at_s": (n + 1) * step_s,
                    "requests_per_s": len(taken) / step_s,
                    "rows_per_s": sum(entry[1] for entry in some) / step_s,
                    "p50_s": p50_s,
                    "p95_s": p95_s,
                    "p99_s": p99_s,
                    "batch_rows": _mean([entry[1] for entry in some]),
                    "batch_fill": _mean([entry[2] for entry in some]),
                    "batch_s": _mean([entry[3] for entry in some]),
                }
            )
        return points


def percentiles(seconds: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    """P50, P95 and P99; None of nothing."""
    if not seconds:
        return None, None, None
    p50, p95, p99 = np.percentile(seconds, (50, 95, 99))
    return float(p50), float(p95), float(p99)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
