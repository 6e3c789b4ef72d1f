"""What all processes told, added up: the last minute, and a line of points of the last ten."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from monitoring.recorder import KEPT_S
from monitoring.slots import Answers, Named, Slot
from monitoring.told import Told

POINT_S = 5
WINDOW_S = 60
SPAN_S = 600
PERCENTILES = (0.5, 0.95, 0.99)
_LATE_S = 3.0  # without a word: what a process may still tell of these seconds is not waited for
_GONE_S = 10.0  # likewise: others are not asked again for what it has not told yet


@dataclass(frozen=True, slots=True)
class Point:
    """One version within some seconds."""

    latency_s: tuple[float, ...] | None  # at PERCENTILES; None: nothing was answered
    requests_per_s: float
    errors_per_s: float


@dataclass(frozen=True, slots=True)
class Points:
    """All versions within the seconds from `start` (Unix time) on."""

    start: int
    versions: Mapping[Named, Point]
    waiting: Mapping[Named, int]  # rows, the most that were seen


class History:
    """For one reader, who asks each process for what is not known of it yet. Times are Unix time."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}  # by process: the last second that is counted
        self._heard: dict[str, float] = {}
        self._asked = 0  # the second that was asked for last
        self._seconds: dict[int, Slot] = {}
        self._points: deque[Points] = deque(maxlen=SPAN_S // POINT_S)
        self._waiting: dict[int, dict[Named, int]] = {}  # by the start of a point
        self._first: int | None = None  # second of which anything is known
        self._until = 0  # the seconds before it are whole
        self._next = 0  # the start of the next point

    def since(self, now: float) -> int:
        """The first second to ask for."""
        present = [known for id, known in self._known.items() if now - self._heard[id] <= _GONE_S]
        self._asked = max(int(now) - KEPT_S, min(present, default=0)) + 1
        return self._asked

    def take(self, told: Iterable[Told], now: float) -> None:
        """What each process tells, asked for what `since` said; what one has told before is not counted
        again. One that was gone has more to tell than it was asked for: it is asked again first."""
        rows: dict[Named, int] = {}
        for one in told:
            done = self._known.get(one.id, 0)
            self._heard[one.id] = now
            for named, waiting in one.waiting.items():
                rows[named] = rows.get(named, 0) + waiting.rows
            if max(1, int(now) - KEPT_S) <= done < self._asked - 1:
                continue
            for second, slot in one.slots.items():
                if done < second and second > now - KEPT_S:
                    self._slot(second).add(slot)
            self._known[one.id] = max(done, int(one.now) - 1)
        most = self._waiting.setdefault(int(now) - int(now) % POINT_S, {})
        for named, count in rows.items():
            most[named] = max(most.get(named, 0), count)
        self._settle(now)

    def window(self) -> tuple[Slot, float]:
        """What is counted of the last WINDOW_S whole seconds, or of those since the first request, and how
        many seconds these are."""
        since = max(self._until - WINDOW_S, self._until if self._first is None else self._first)
        whole = Slot()
        for second, slot in self._seconds.items():
            if since <= second < self._until:
                whole.add(slot)
        return whole, float(max(1, self._until - since))

    def points(self) -> tuple[Points, ...]:
        """Of the last SPAN_S seconds, oldest first; the running one is not among them."""
        return tuple(self._points)

    def _slot(self, second: int) -> Slot:
        if self._first is None or second < self._first:
            self._first = second
        slot = self._seconds.get(second)
        if slot is None:
            slot = self._seconds[second] = Slot()
        return slot

    def _settle(self, now: float) -> None:
        """Find out up to where all is known, and close the points before that."""
        for id in [id for id, at in self._heard.items() if now - at > KEPT_S]:
            del self._heard[id], self._known[id]
        present = [self._known[id] for id, at in self._heard.items() if now - at <= _LATE_S]
        until = self._until = max(self._until, min(present, default=int(now) - 1) + 1)
        if until - self._next > KEPT_S:  # the first time, or after a long silence
            self._next = until - until % POINT_S - WINDOW_S
        while self._next + POINT_S <= until:
            self._close(self._next)
            self._next += POINT_S
        for second in [second for second in self._seconds if second < until - KEPT_S]:
            del self._seconds[second]

    def _close(self, start: int) -> None:
        whole = Slot()
        for second in range(start, start + POINT_S):
            if second in self._seconds:
                whole.add(self._seconds[second])
        versions = {named: _point(answers) for named, answers in whole.answers.items()}
        self._points.append(Points(start, versions, self._waiting.pop(start, {})))
        for old in [at for at in self._waiting if at < start]:
            del self._waiting[old]


def _point(answers: Answers) -> Point:
    latency_s = tuple(_rounded(answers.latency.quantile(share)) for share in PERCENTILES)
    return Point(
        latency_s if answers.count else None, answers.count / POINT_S, answers.errors.total() / POINT_S
    )


def _rounded(value: float) -> float:
    """To four digits: points are told again every second for ten minutes, and are within 1% anyway."""
    return float(f"{value:.4g}")
