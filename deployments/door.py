"""How many requests of a model HAProxy lets in at a time (pure).

Refusing a request in Python costs a small part of a millisecond, which at ten times the capacity is most of
the machine, and a flood's first hundreds are read and accepted before the first refusal. So a gateway tells
HAProxy, in headers of some answers, how many are worth sending, and HAProxy refuses what comes on top
(`deployments/haproxy_front.cfg`). While all is well that is an estimate: as many usual requests as are
answered in the time that callers wait. Once many have had to be refused here, it is what is held when that
happens: with any more let in, what is refused here makes room for the next to be refused within milliseconds,
and the whole flood gets through.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LIMIT_HEADER = "headrace-limit"
RETRY_HEADER = "headrace-retry"
REFUSED_HEADER = "headrace-refused"  # on a request: how many HAProxy refused since the last one it let in
_MOST_REFUSED = (
    10_000  # that one request may tell of: where no HAProxy stands before us it is the caller's word
)
OPEN = 1_000_000  # a limit that never binds

# Refusals of about the last second. Fewer than these cost little, and HAProxy, which cannot tell a small
# request from a large one, would refuse some for which there is time.
_CLOSES_AT, _OPENS_AT = 20.0, 1.0
_PATIENCE_S = 10.0  # the longest timeout of so long counts
_FADING = 0.9  # of what was held at earlier refusals
_TELL_S = 0.1  # between two estimates: HAProxy and we take time for each


class Door:
    """One model in one gateway: what it holds, and how much of that is worth it.

    `floor` keeps the engines busy, however long a request takes. `usual_s` tells what one more request of the
    usual size adds to the wait of those behind it, 0 when nobody knows.
    """

    def __init__(self, gateways: int, floor: int, usual_s: Callable[[], float] = lambda: 0.0) -> None:
        self._gateways = gateways
        self.floor = floor
        self._usual_s = usual_s
        self._num_held = 0
        self._num_coming = 0
        self._is_closed = False
        self._limit = 0.0
        self._refusals = 0.0
        self._refused_at = float("-inf")
        self._wait_s = 0.0
        self._patience_s = 0.0
        self._patience_at = float("-inf")
        self._tell_at = float("-inf")

    @contextmanager
    def coming(self) -> Iterator[None]:
        """While a request's body is on its way: HAProxy counts it, but it takes nobody's time."""
        self._num_coming += 1
        try:
            yield
        finally:
            self._num_coming -= 1

    def came(self, now: float, timeout_s: float | None) -> None:
        """A request arrived that waits this long (None: as long as it takes)."""
        patience_s = _patience(timeout_s)
        if patience_s >= self._patience_s or now - self._patience_at > _PATIENCE_S:
            self._patience_s, self._patience_at = patience_s, now
        self._num_held += 1

    def left(self) -> None:
        """It was answered, refused or given up."""
        self._num_held -= 1

    def refused(self, now: float, wait_s: float, timeout_s: float | None) -> None:
        """It was refused; that of an impatient one says nothing about the others."""
        if _patience(timeout_s) < 0.9 * self._patience_s:
            return
        self._refusals = self._recent(now) + 1
        self._refused_at, self._wait_s = now, wait_s
        held = float(self._num_held - 1)
        if self._is_closed:
            self._limit = _FADING * self._limit + (1 - _FADING) * held
        elif self._refusals >= _CLOSES_AT:
            self._is_closed, self._limit = True, held

    def headers(self, now: float) -> dict[str, str]:
        """What HAProxy is to be told with this answer. It is told even while all is well: it may have heard
        another limit from a gateway that is no more."""
        if self._is_closed and self._recent(now) < _OPENS_AT:
            self._is_closed, self._tell_at = False, now
        if now < self._tell_at and not self._is_closed:
            return {}
        self._tell_at = now + _TELL_S
        limit, retry_s = (self._limit, self._wait_s) if self._is_closed else self._estimate()
        each = max(self.floor, round(limit)) + self._num_coming
        return {
            LIMIT_HEADER: str(min(each * self._gateways, OPEN)),
            RETRY_HEADER: str(max(1, round(retry_s))),
        }

    def _estimate(self) -> tuple[float, float]:
        """How many are worth it and after how long there is room again, as long as few were refused."""
        usual_s = self._usual_s()
        if not usual_s or math.isinf(self._patience_s):
            return OPEN, 0.0
        return min(self._patience_s / usual_s, OPEN), self._patience_s

    def _recent(self, now: float) -> float:
        """The refusals of about the last second, older ones fading."""
        return self._refusals * math.exp(min(0.0, self._refused_at - now))


def num_refused(told: str) -> int:
    """What a request's header says; 0 for what is no number."""
    return min(int(told), _MOST_REFUSED) if told.isascii() and told.isdigit() else 0


def _patience(timeout_s: float | None) -> float:
    return float("inf") if timeout_s is None else timeout_s
