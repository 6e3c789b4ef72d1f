"""How long replicas take to start, alone or several at a time on few cores (pure)."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

from headrace.errors import CallerError

_TOGETHER_S = 1.0  # starts that began within so long belong together


@dataclass(frozen=True, slots=True)
class Starts:
    """What was measured of starts and stops."""

    seconds: tuple[float, ...] = (5.0,)  # of starts, one after the other; after the last the first again
    cores: float = math.inf  # that starts share: with more under way than these, each takes longer
    stop_s: float = 2.5  # from being told to stop to being gone, with nothing left to do
    began: tuple[float, ...] = ()  # when each was measured: a start then takes what the nearest ones took

    def __post_init__(self) -> None:
        if not self.seconds or min(self.seconds) < 0 or self.cores <= 0 or self.stop_s < 0:
            raise CallerError("starts and stops take at least 0 s, and starts share some cores")
        assert len(self.began) in (0, len(self.seconds))

    @property
    def usual_s(self) -> float:
        """What a single start takes on average."""
        return sum(self.seconds) / len(self.seconds)


class Starting:
    """The starts that are under way. Each gets an equal share of the cores, one core at most."""

    def __init__(self, starts: Starts) -> None:
        self._starts = starts
        self._begun = 0
        self._now = 0.0
        self._worked_s = 0.0  # by one that would have been there all the time
        self._ends: list[tuple[float, int]] = []  # by the above
        self._open: set[int] = set()

    def __len__(self) -> int:
        return len(self._open)

    def begin(self, now: float) -> int:
        """A number that names the start."""
        self._work(now)
        number = self._begun
        self._begun += 1
        seconds = self._seconds(number, now)
        heapq.heappush(self._ends, (self._worked_s + seconds, number))
        self._open.add(number)
        return number

    def cancel(self, now: float) -> int:
        """The number of the latest, which is given up."""
        self._work(now)
        number = max(self._open)
        self._open.remove(number)
        return number

    def next_at(self) -> float:
        """When the next one is done, unless others begin before; infinite when none is under way."""
        while self._ends and self._ends[0][1] not in self._open:
            heapq.heappop(self._ends)
        if not self._ends:
            return math.inf
        return self._now + (self._ends[0][0] - self._worked_s) / self._share()

    def end(self, now: float) -> int:
        """The number of the one that is done at `next_at`."""
        self._work(now)
        _, number = heapq.heappop(self._ends)
        self._open.remove(number)
        return number

    def _seconds(self, number: int, now: float) -> float:
        starts = self._starts
        if not starts.began:
            return starts.seconds[number % len(starts.seconds)]
        nearest = min(abs(at - now) for at in starts.began)
        there = [
            seconds
            for at, seconds in zip(starts.began, starts.seconds, strict=True)
            if abs(at - now) <= nearest + _TOGETHER_S
        ]
        return there[len(self._open) % len(there)]

    def _share(self) -> float:
        return min(1.0, self._starts.cores / len(self._open))

    def _work(self, now: float) -> None:
        if self._open:
            self._worked_s += (now - self._now) * self._share()
        self._now = now
