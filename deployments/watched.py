"""What the monitor knows about one model's rollout or test."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from deployments.applications import Health
from deployments.versions import app_name
from rollout.blocks import condense
from rollout.decide import Decision
from rollout.effects import QUANTILES, Comparison, compare
from rollout.evidence import Evidence, Slot, Window, together, windows
from rollout.gather import Gathered
from rollout.state import State
from rollout.store import Stamp
from rollout.verdict import verdict

_FEWEST_BEFORE = 30  # seconds


class Watched:
    """It can be learnt again from the repository and the gateways."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.stamp: Stamp | None = None
        self.state: State | None = None
        self.is_settled = False  # no application is there that is not wanted
        self.problem = ""  # why nothing is decided now
        self.gathered = Gathered()
        self._decision: Decision | None = None
        self._totals: Mapping[str, Slot] = {}
        self._test: tuple[tuple[str, ...], float] | None = None  # its variants, and since when they count
        self._step: tuple[str, float] | None = None  # of a rollout: which the windows are of
        self._windows: tuple[Window, ...] = ()
        self._known_until = 0.0
        self._ill_since: float | None = None
        self._taken_at: float | None = None

    @property
    def words(self) -> str:
        """What is decided now, or why nothing is."""
        return self.problem or (self._decision.why if self._decision else "")

    def begin(self, state: State, before_s: int) -> int:
        """The first second of evidence that is not known yet."""
        under_way = state.rollout or state.trial
        assert under_way is not None
        if self.gathered.is_about(under_way.id):
            return self.gathered.begin(under_way.id, 0)
        self._decision, self._totals, self._ill_since, self._taken_at = None, {}, None, None
        self._test = None
        return self.gathered.begin(under_way.id, int(under_way.began) - before_s)

    def take(self, seen: list[dict[str, Any]], running: Mapping[str, int]) -> None:
        """What the gateways tell, and how many replicas there are."""
        now = time.time()
        self.gathered.take({told["gateway"]: (told["now"], told["slots"][self.model]) for told in seen}, now)
        if self._taken_at is not None:
            self.gathered.count_replicas(running, now, now - self._taken_at)
        self._taken_at = now

    def evidence(self, state: State, settle_s: float, *, is_mixed: bool) -> Evidence:
        """What is known about the present step."""
        rollout, slots, until = state.under_way, self.gathered.slots, self.gathered.until
        if self._step != (rollout.id, rollout.since):
            self._step, self._windows = (rollout.id, rollout.since), ()
            self._known_until = rollout.since + settle_s
        new = windows(slots, state.stable, rollout.candidate, self._known_until, until)
        self._windows = condense((*self._windows, *new))
        self._known_until = max(self._known_until, until)
        before = windows(slots, state.stable, "", 0, rollout.began)
        if len(before) < _FEWEST_BEFORE:  # a monitor that was started later: earlier steps are next best
            before = windows(slots, state.stable, "", 0, rollout.since)
        elapsed_s = time.time() - rollout.since
        return Evidence(elapsed_s, self._windows, tuple(pair.stable for pair in before), is_mixed)

    def decided(self, decision: Decision, totals: Mapping[str, Slot]) -> None:
        self._decision, self._totals = decision, totals

    def tests(self, state: State, settle_s: float) -> None:
        """A test is under way; what its variants have done is added up for whoever asks."""
        assert state.trial is not None
        self._test = tuple(state.trial.variants), state.trial.since + settle_s

    def _compared(self) -> tuple[Mapping[str, Slot], Comparison] | None:
        """What the variants of a test have done so far."""
        if self._test is None:
            return None
        (variants, since), slots, until = self._test, self.gathered.slots, self.gathered.until
        seconds = [at for at in sorted(slots) if since <= at and at + 1 <= until]
        series = {version: [slots[at].get(version) or Slot() for at in seconds] for version in variants}
        lasts_s = [self.gathered.lasts_s.get(at, 1) for at in seconds]
        totals = {version: together(row) for version, row in series.items()}
        return totals, compare(list(series), list(series.values()), lasts_s)

    def figures(self, candidate: str) -> dict[str, float]:
        """For the history: what each guard read, and of how many requests."""
        assert self._decision is not None
        read = {reading.guard: reading.value for reading in self._decision.readings}
        total = self._totals[candidate]
        counts = {"requests": total.requests, "copies": total.compared}
        return {key: float(value) for key, value in (read | counts).items() if value is not None}

    def given_up(self, ill: Mapping[str, str], health: Mapping[str, Health], patience_s: float) -> str:
        """Why a candidate must be; "" as long as it need not. The stable version never is."""
        assert self.state is not None
        others = {version: why for version, why in ill.items() if version != self.state.stable}
        for version in others:
            app = health.get(app_name(self.model, version))
            if app is not None and app.has_failed:
                return f"version {version!r} cannot be loaded: {app.words}"
        if not others:
            self._ill_since = None
            return ""
        now = time.time()
        self._ill_since = self._ill_since or now
        if now - self._ill_since < patience_s:
            return ""
        version, why = next(iter(others.items()))
        return f"version {version!r} has not been ready for {patience_s:g} s: {why}"

    def view(self) -> dict[str, Any]:
        """Plain data for whoever asks."""
        decision = self._decision
        compared = self._compared()
        totals, comparison = compared if compared else (self._totals, None)
        return {
            "problem": self.problem,
            "action": None if decision is None else decision.action,
            "why": "" if decision is None else decision.why,
            "guards": [] if decision is None else [asdict(reading) for reading in decision.readings],
            "versions": {version: told_of(slot) for version, slot in totals.items()},
            "effects": [] if comparison is None else [asdict(effect) for effect in comparison.effects],
            "verdict": "" if comparison is None else verdict(comparison),
        }


def told_of(slot: Slot) -> dict[str, float | None]:
    """The figures of a version in a step; seconds, and shares from 0 to 1. None: nothing to tell it by."""

    def share(part: float, whole: float) -> float | None:
        return part / whole if whole else None

    latency = {name: slot.latency.quantile(q) if slot.latency.bins else None for name, q in QUANTILES.items()}
    return {
        "requests": slot.requests,
        "errors": share(slot.errors, slot.requests),
        **latency,
        "hits": share(slot.hits, slot.requests),
        "replica_s_per_1000": share(1000 * slot.replica_s, slot.requests),
        "engine_s_per_1000": share(1000 * slot.engine_s, slot.requests - slot.hits),
        "copies": slot.copies,
        "copy_errors": share(slot.copy_errors, slot.copies),
        "drift": share(slot.differing, slot.compared),
        "top1": share(slot.compared - slot.flipped, slot.compared),
        "cosine": share(slot.compared - slot.distance, slot.compared),
        "judged": slot.judged,
        "accuracy": share(slot.right, slot.judged),
    }
