"""How much may be tried again, so that a failure is not made worse by the second attempts (pure)."""

from __future__ import annotations

_SHARE = 0.2  # of the requests
_AT_ONCE = 100.0  # what one replica that dies may have held


class RetryBudget:
    """Every request earns a fifth of a retry; what is not used is kept, up to a bound."""

    def __init__(self) -> None:
        self._left = _AT_ONCE

    def earn(self, requests: int) -> None:
        self._left = min(_AT_ONCE, self._left + _SHARE * requests)

    def take(self) -> bool:
        """Whether one more request may be tried again; it is counted."""
        if self._left < 1:
            return False
        self._left -= 1
        return True
