"""How many requests of a model HAProxy lets in at a time while the model is overloaded (pure).

Refusing a request in Python costs a small part of a millisecond, which at ten times the capacity is most of
the machine. So a gateway that has to refuse many tells HAProxy, in headers of its answers, how many it holds,
and HAProxy refuses what comes on top (`deployments/haproxy_front.cfg`). With any more let in, what is refused
here makes room for the next to be refused within milliseconds, and the whole flood gets through.
"""

from __future__ import annotations

import math

LIMIT_HEADER = "headrace-limit"
RETRY_HEADER = "headrace-retry"
OPEN = 1_000_000  # a limit that never binds

# Refusals of about the last second. Fewer than these cost little, and HAProxy, which cannot tell a small
# request from a large one, would refuse some for which there is time.
_CLOSES_AT, _OPENS_AT = 20.0, 1.0
_TOLD_S = 5.0  # after that, answers say for so long that there is no limit
_PATIENCE_S = 10.0  # the longest timeout of so long counts
_FADING = 0.9  # of what was held at earlier refusals


class Door:
    """One model in one gateway: what it holds when it has to refuse those who would wait longest."""

    def __init__(self, gateways: int, floor: int) -> None:
        self._gateways = gateways
        self._floor = floor  # what keeps the engines busy, however long a request takes
        self._num_held = 0
        self._is_closed = False
        self._limit = 0.0
        self._refusals = 0.0
        self._refused_at = float("-inf")
        self._opened_at = float("-inf")
        self._wait_s = 0.0
        self._patience_s = 0.0
        self._patience_at = float("-inf")

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
        """What HAProxy is to be told with an answer; nothing while all is well."""
        if self._is_closed and self._recent(now) < _OPENS_AT:
            self._is_closed, self._opened_at = False, now
        if self._is_closed:
            limit = max(self._floor, round(self._limit)) * self._gateways
            return {LIMIT_HEADER: str(limit), RETRY_HEADER: str(max(1, round(self._wait_s)))}
        if now - self._opened_at <= _TOLD_S:
            return {LIMIT_HEADER: str(OPEN), RETRY_HEADER: "1"}
        return {}

    def _recent(self, now: float) -> float:
        """The refusals of about the last second, older ones fading."""
        return self._refusals * math.exp(min(0.0, self._refused_at - now))


def _patience(timeout_s: float | None) -> float:
    return float("inf") if timeout_s is None else timeout_s
