"""What this process has seen of each version lately, for whoever merges the evidence."""

from __future__ import annotations

from headrace.errors import CallerError, HeadraceError
from headrace.requests import Ran
from rollout.evidence import Slot, Slots

KEPT_S = 300  # a monitor that starts anew has the last minutes to look at


class Noted:
    """Slots by model, second and version. `now` is Unix time, so that seconds of several processes meet."""

    def __init__(self, kept_s: int = KEPT_S) -> None:
        self._kept_s = kept_s
        self._models: dict[str, Slots] = {}

    def slot(self, model: str, version: str, now: float) -> Slot:
        """Where this second's counts of a version go."""
        slots = self._models.get(model)
        if slots is None:
            slots = self._models[model] = {}
        second = int(now)
        versions = slots.get(second)
        if versions is None:
            for old in [known for known in slots if known < second - self._kept_s]:
                del slots[old]
            versions = slots[second] = {}
        slot = versions.get(version)
        if slot is None:
            slot = versions[version] = Slot()
        return slot

    def answered(self, model: str, version: str, now: float, took_s: float, ran: Ran, rows: int) -> None:
        """A caller got an answer, `took_s` after the request."""
        slot = self.slot(model, version, now)
        slot.requests += 1
        timings = ran.timings
        if timings.tier in ("memory", "redis"):
            slot.hits += 1
            return
        slot.latency.add(took_s)
        slot.inner.add(timings.queued_s + timings.ran_s)
        if timings.batch_rows and timings.tier != "flight":  # whose computation another request has counted
            slot.engine_s += timings.ran_s * min(1.0, rows / timings.batch_rows)

    def failed(self, model: str, version: str, now: float, err: HeadraceError) -> None:
        """A caller got an error. What is the caller's own mistake says nothing about a version."""
        slot = self.slot(model, version, now)
        slot.requests += 1
        slot.errors += not isinstance(err, CallerError)

    def judged(self, model: str, version: str, now: float, right: float) -> None:
        """The truth of an answer was told; `right` is 1 where they agree, 0 where not, or in between."""
        slot = self.slot(model, version, now)
        slot.judged += 1
        slot.right += right

    def since(self, model: str, second: int) -> Slots:
        """A model's slots from `second` on, this second's included: it is not over yet."""
        return {at: versions for at, versions in self._models.get(model, {}).items() if at >= second}
