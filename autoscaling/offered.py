"""How much is asked for of late: quick to see a change, and steady without one (pure)."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

_SLOT_S = 0.25
_WINDOWS = (2, 4, 8, 16)  # slots, that a change is looked for in
_LEAST = 4  # of which something is known at the start
_SLOTS = 40  # that count without a change
_SIGMAS = 3.0  # what chance does not bring about


@dataclass(slots=True)
class _Slot:
    number: int
    requests: int = 0
    rows: int = 0
    elements: int = 0


class Offered:
    """Counts what arrives, refused or not.

    The rate is that of the last ten seconds, unless the last half, one, two or four differ from it by more
    than arrivals at a steady rate would (the variance of their number is their mean): then it is theirs.
    """

    def __init__(self) -> None:
        self._slots: deque[_Slot] = deque()
        self._began: int | None = None

    def came(self, now: float, rows: int, elements: int) -> None:
        """A request of so many rows, and elements in all of them, arrived."""
        slot = self._slot(now)
        slot.requests += 1
        slot.rows += rows
        slot.elements += elements

    def turned_away(self, now: float, requests: int) -> None:
        """So many more that were refused before anybody looked at them: they count as the usual ones do."""
        slot = self._slot(now)
        usual = self._sum(slot.number + 1, _SLOTS)
        slot.requests += requests
        each = requests / max(usual.requests, 1)
        slot.rows += round(each * usual.rows)
        slot.elements += round(each * usual.elements)

    def per_second(self, now: float) -> tuple[float, float]:
        """Rows and elements."""
        newest = self._slot(now).number  # not over yet: it does not count
        if self._began is None:
            return 0.0, 0.0
        there = min(_SLOTS, max(_LEAST, newest - self._began))
        usual = self._sum(newest, there)
        found = usual, there
        for width in _WINDOWS:
            if width >= there:
                break
            recent = self._sum(newest, width)
            expected = usual.requests * width / there
            if abs(recent.requests - expected) > _SIGMAS * math.sqrt(expected + 1):
                found = recent, width
                break
        total, width = found
        seconds = width * _SLOT_S
        return total.rows / seconds, total.elements / seconds

    def _slot(self, now: float) -> _Slot:
        number = int(now / _SLOT_S)
        if not self._slots or self._slots[-1].number < number:
            self._slots.append(_Slot(number))
            if self._began is None:
                self._began = number
        while self._slots[0].number < number - _SLOTS:
            self._slots.popleft()
        return self._slots[-1]

    def _sum(self, newest: int, width: int) -> _Slot:
        total = _Slot(newest)
        for slot in self._slots:
            if newest - width <= slot.number < newest:
                total.requests += slot.requests
                total.rows += slot.rows
                total.elements += slot.elements
        return total
