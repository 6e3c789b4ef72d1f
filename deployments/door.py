"""How many requests of a model HAProxy lets in at a time while the model is overloaded (pure).

Refusing a request in Python costs a small part of a millisecond, which at ten times the capacity is most of
the machine. So a gateway that has to refuse tells HAProxy, in headers of its answers, how much is worth
sending, and the rest is refused there (`deployments/haproxy.sh`).
"""

from __future__ import annotations

LIMIT_HEADER = "headrace-limit"
RETRY_HEADER = "headrace-retry"
OPEN = 1_000_000  # a limit that never binds

_AHEAD = 1.25  # of what can be answered in time: a little more than enough has to get through
_CLOSED_S = 2.0  # after the latest refusal the limit holds so long
_TOLD_S = 5.0  # after that, answers say for so long that there is none
_PATIENCE_S = 10.0  # the longest timeout of so long counts
_RATE_S = 0.5


class Door:
    """One model in one gateway: who was refused, how many are answered in a second, and who waits longest."""

    def __init__(self, gateways: int, floor: int, max_queue: int) -> None:
        self._gateways = gateways
        self._floor = floor  # what keeps the engine busy
        self._max_queue = max_queue
        self._refused_at = float("-inf")
        self._wait_s = 0.0
        self._patience_s = 0.0
        self._patience_at = float("-inf")
        self._rate = 0.0
        self._num_answered = 0
        self._counted_from = 0.0

    def came(self, now: float, timeout_s: float | None) -> None:
        """A request arrived that waits this long (None: as long as it takes)."""
        patience_s = float("inf") if timeout_s is None else timeout_s
        if patience_s >= self._patience_s or now - self._patience_at > _PATIENCE_S:
            self._patience_s, self._patience_at = patience_s, now

    def answered(self, now: float) -> None:
        self._num_answered += 1
        if now - self._counted_from >= _RATE_S:
            self._rate = self._num_answered / (now - self._counted_from)
            self._num_answered, self._counted_from = 0, now

    def refused(self, now: float, wait_s: float) -> None:
        self._refused_at, self._wait_s = now, wait_s

    def headers(self, now: float) -> dict[str, str]:
        """What HAProxy is to be told with an answer; nothing while all is well."""
        since_s = now - self._refused_at
        if since_s > _CLOSED_S + _TOLD_S:
            return {}
        if since_s > _CLOSED_S:
            return {LIMIT_HEADER: str(OPEN), RETRY_HEADER: "1"}
        enough = min(self._max_queue, _AHEAD * self._rate * self._patience_s)
        limit = max(self._floor, int(enough)) * self._gateways
        return {LIMIT_HEADER: str(limit), RETRY_HEADER: str(max(1, round(self._wait_s)))}
