"""Whether to call a neighbour that may be down (pure)."""

from __future__ import annotations


class Breaker:
    """Says whether to call a neighbour that may be down (pure; the clock, in seconds, is an argument).

    After `FAULTS` in a row it is open: one probe is let through after `FIRST_S`, and after twice the
    time, up to `LAST_S`, for each probe that fails. Any success closes it.
    """

    FAULTS = 3
    FIRST_S = 0.5
    LAST_S = 5.0

    def __init__(self) -> None:
        self.succeeded()

    def is_open(self, now: float) -> bool:
        """True while a call would be turned away."""
        return self._faults >= self.FAULTS and (self._is_probing or now < self._open_until)

    def enter(self, now: float) -> bool:
        """True when the caller may call; it must then tell how that ended, by one of the next three."""
        if self.is_open(now):
            return False
        self._is_probing = self._faults >= self.FAULTS
        return True

    def succeeded(self) -> None:
        self._faults = 0
        self._open_s = self.FIRST_S
        self._open_until = 0.0
        self._is_probing = False

    def failed(self, now: float) -> None:
        if self._faults >= self.FAULTS and not self._is_probing:
            return  # a straggler of the calls that opened it
        self._faults += 1
        self._is_probing = False
        if self._faults >= self.FAULTS:
            self._open_until = now + self._open_s
            self._open_s = min(2 * self._open_s, self.LAST_S)

    def left(self) -> None:
        """The caller was cancelled and knows nothing; the next one may probe."""
        self._is_probing = False
