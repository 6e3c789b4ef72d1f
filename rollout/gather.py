"""Evidence of many gateways as one, each gateway's second counted once."""

from __future__ import annotations

from collections.abc import Mapping

from rollout.evidence import Slot, Slots, merge_into

_MOST = 7200  # slots; past it old ones are joined, so that a test may last for months
_COARSE_S = 60
_FINE = 3600  # of the newest, which stay as they are
_GONE_S = 10.0  # without an answer: a gateway that is not waited for any more


class Gathered:
    """What was seen since some second before a rollout began."""

    def __init__(self) -> None:
        self.slots: Slots = {}
        self.lasts_s: dict[int, int] = {}  # of slots that are longer than a second
        self.until = 0.0  # up to here nothing is missing
        self._key = ""
        self._since = 0
        self._done: dict[str, int] = {}  # by gateway: the last second that is counted
        self._heard: dict[str, float] = {}

    def is_about(self, key: str) -> bool:
        return key == self._key

    def begin(self, key: str, since: int) -> int:
        """The first second to ask for; with another key all begins anew."""
        if key != self._key:
            self.__init__()  # type: ignore[misc]  # all of it
            self._key, self._since = key, since
        return max(self._since, min(self._done.values(), default=self._since - 1) + 1)

    def take(self, told: Mapping[str, tuple[float, Slots]], now: float) -> None:
        """What each gateway tells, and its time. Its running second is left for the next time."""
        for gateway, (its_now, slots) in told.items():
            done = self._done.get(gateway, self._since - 1)
            whole = {at: versions for at, versions in slots.items() if done < at < int(its_now)}
            merge_into(self.slots, whole)
            self._done[gateway] = max(done, int(its_now) - 1)
            self._heard[gateway] = now
        for gateway, at in list(self._heard.items()):
            if now - at > _GONE_S:
                del self._heard[gateway], self._done[gateway]
        self.until = float(min(self._done.values(), default=self._since - 1) + 1)
        if len(self.slots) > _MOST:
            self._join()

    def count_replicas(self, running: Mapping[str, int], now: float, seconds: float) -> None:
        """So many replicas of each version were there for the last seconds."""
        versions = self.slots.setdefault(int(now) - 1, {})
        for version, replicas in running.items():
            versions.setdefault(version, Slot()).replica_s += replicas * seconds

    def _join(self) -> None:
        seconds = sorted(self.slots)
        limit = seconds[-_FINE] - seconds[-_FINE] % _COARSE_S
        joined: Slots = {}
        for at in [at for at in seconds if at < limit]:
            start = at - at % _COARSE_S
            merge_into(joined, {start: self.slots.pop(at)})
            self.lasts_s[start] = _COARSE_S
        self.slots = joined | self.slots
