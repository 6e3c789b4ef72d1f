"""How many requests of a model HAProxy lets in at a time while the model is overloaded (pure).

Refusing a request in Python costs a small part of a millisecond, which at ten times the capacity is most of
the machine. So a gateway that has to refuse tells HAProxy, in headers of its answers, how many it holds, and
HAProxy refuses what comes on top (`deployments/haproxy_front.cfg`). With any more let in, what is refused
here makes room for the next to be refused within milliseconds, and the whole flood gets through.
"""

from __future__ import annotations

LIMIT_HEADER = "headrace-limit"
RETRY_HEADER = "headrace-retry"
OPEN = 1_000_000  # a limit that never binds

_CLOSED_S = 2.0  # after the latest refusal the limit holds so long
_TOLD_S = 5.0  # after that, answers say for so long that there is none
_PATIENCE_S = 10.0  # the longest timeout of so long counts
_FADING = 0.9  # of what was held at earlier refusals


class Door:
    """One model in one gateway: what it holds when it has to refuse those who would wait longest."""

    def __init__(self, gateways: int, floor: int) -> None:
        self._gateways = gateways
        self._floor = floor  # what keeps the engine busy
        self._num_held = 0
        self._limit = 0.0
        self._refused_at = float("-inf")
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
        held = float(self._num_held - 1)
        is_new = now - self._refused_at > _CLOSED_S
        self._limit = held if is_new else _FADING * self._limit + (1 - _FADING) * held
        self._refused_at, self._wait_s = now, wait_s

    def headers(self, now: float) -> dict[str, str]:
        """What HAProxy is to be told with an answer; nothing while all is well."""
        since_s = now - self._refused_at
        if since_s > _CLOSED_S + _TOLD_S:
            return {}
        if since_s > _CLOSED_S:
            return {LIMIT_HEADER: str(OPEN), RETRY_HEADER: "1"}
        limit = max(self._floor, round(self._limit)) * self._gateways
        return {LIMIT_HEADER: str(limit), RETRY_HEADER: str(max(1, round(self._wait_s)))}


def _patience(timeout_s: float | None) -> float:
    return float("inf") if timeout_s is None else timeout_s
