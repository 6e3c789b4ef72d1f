"""Whole rollouts with made-up traffic, decided by `decide` itself, the same for the same seed (pure).

They tell what statistics alone cannot: whether good versions get through, and in which time, on machines that
stand still now and then, under loads that change, and with queues that grow with a version's share.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from headrace.sketch import Sketch
from headrace.tensors import Array
from rollout.blocks import condense
from rollout.decide import Decision, Phase, decide
from rollout.evidence import Evidence, Slot, Slots, Window, windows
from rollout.plan import Plan

_PER_LOG = 1 / math.log(1.02)  # bins of a Sketch


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Of a version. A request without a queue takes `median_s` at the median, log-normally spread."""

    median_s: float = 0.02
    spread: float = 0.5  # standard deviation of the logarithm
    errors: float = 0.0  # share of requests
    flips: float = 0.0  # share of answers that differ from the stable version's
    stall_every_s: float = 240.0  # its own replicas stand still for 0.5 to 2 s; 0: never
    accuracy: float = 0.9


@dataclass(frozen=True, slots=True)
class Conditions:
    """What both versions meet. Requests come in at random, `load` of them each second; the load wanders by up
    to `swing` of it within some minutes."""

    load: float = 100.0
    swing: float = 0.3
    utilization: float = 0.5  # of one version with all requests, at `load`
    shared_stall_every_s: float = 240.0  # the machine stands still for 0.5 to 2 s; 0: never
    outages_every_s: float = 3600.0  # half of all requests fail for 5 s, of both versions; 0: never
    judged: float = 0.0  # share of answers of which the truth is told
    before_s: int = 300
    most_s: float = 1800.0  # then a rollout that still goes on counts as held


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended; `exposed` counts the candidate's answers to callers, `seen` those of the last step."""

    ended: str  # "promoted", "rolled back", "held"
    phase: Phase
    step: int  # index of plan.steps; -1 in shadow
    took_s: float
    exposed: int
    seen: int  # requests, or compared copies in shadow
    step_s: float
    last: Decision


def rehearse(
    plan: Plan,
    seed: int,
    candidate: Behaviour | None = None,
    stable: Behaviour | None = None,
    conditions: Conditions | None = None,
    look_s: int = 1,
) -> Outcome:
    """One rollout from shadow to the end of the soak, looked at every `look_s` seconds."""
    conditions = conditions or Conditions()
    world = _World(conditions, stable or Behaviour(), candidate or Behaviour(), np.random.default_rng(seed))
    world.passes(conditions.before_s, 0.0, 0.0)
    before = tuple(row.stable for row in world.takes())
    steps: list[tuple[Phase, int]] = [("shadow", -1)] if plan.shadow else []
    steps += [("canary", number) for number in range(len(plan.steps))] + [("soak", len(plan.steps) - 1)]
    began_at = world.now
    exposed = 0
    for phase, step in steps:
        since = world.now
        rows: tuple[Window, ...] = ()
        while True:
            share = plan.steps[step] / 100 if step >= 0 else 0.0
            world.passes(look_s, share, plan.shadow / 100 if phase == "shadow" else 0.0)
            rows = condense((*rows, *world.takes()))
            found = decide(plan, phase, Evidence(world.now - since, rows, before))
            if found.action != "hold" or world.now - began_at >= conditions.most_s:
                break
        requests = sum(row.candidate.requests for row in rows)
        exposed += requests
        if found.action != "advance":
            ended = "rolled back" if found.action == "roll_back" else "held"
            break
    else:
        ended = "promoted"
    seen = requests or sum(row.candidate.compared for row in rows)
    return Outcome(ended, phase, step, world.now - began_at, exposed, seen, world.now - since, found)


@dataclass(slots=True)
class _World:
    conditions: Conditions
    stable: Behaviour
    candidate: Behaviour
    random: np.random.Generator
    slots: Slots = field(default_factory=dict)
    now: int = 0
    stalls: dict[str, Array] = field(init=False)  # (number, 2): from, to
    outages: Array = field(init=False)
    phase: float = field(init=False)

    def __post_init__(self) -> None:
        until = self.conditions.before_s + self.conditions.most_s + 60
        shared = self._times(self.conditions.shared_stall_every_s, until, 0.5, 2.0)
        self.stalls = {
            name: np.concatenate([shared, self._times(version.stall_every_s, until, 0.5, 2.0)])
            for name, version in (("stable", self.stable), ("candidate", self.candidate))
        }
        self.outages = self._times(self.conditions.outages_every_s, until, 5.0, 5.0)
        self.phase = self.random.uniform(0, 2 * math.pi)

    def passes(self, seconds: int, share: float, copied: float) -> None:
        """Requests of the next seconds, split between the versions."""
        until = self.now + seconds
        load = self._load()
        starts = np.sort(self.random.uniform(self.now, until, self.random.poisson(load * seconds)))
        is_candidate = self.random.random(len(starts)) < share
        self._answers("stable", self.stable, starts[~is_candidate], 1 - share, load)
        self._answers("candidate", self.candidate, starts[is_candidate], share, load)
        if copied:
            self._compares(starts[self.random.random(len(starts)) < copied])
        self.now = until

    def takes(self) -> tuple[Window, ...]:
        """The seconds that are over since it was asked last."""
        found = windows(self.slots, "stable", "candidate", 0, self.now)
        self.slots = {second: slots for second, slots in self.slots.items() if second >= self.now}
        return found

    def _load(self) -> float:
        wave = math.sin(self.now / 60 + self.phase) * math.sin(self.now / 170 + self.phase)
        return self.conditions.load * (1 + self.conditions.swing * wave)

    def _times(self, every_s: float, until: float, shortest_s: float, longest_s: float) -> Array:
        number = self.random.poisson(until / every_s) if every_s else 0
        starts = self.random.uniform(0, until, number)
        return np.stack([starts, starts + self.random.uniform(shortest_s, longest_s, number)], axis=1)

    def _answers(self, name: str, version: Behaviour, starts: Array, share: float, load: float) -> None:
        if not len(starts):
            return
        slow = version.median_s / 0.02
        busy = min(0.9, self.conditions.utilization * share * slow * load / self.conditions.load)
        queue = 1 + busy / (1 - busy) * self.random.exponential(0.5, len(starts))
        took = version.median_s * np.exp(version.spread * self.random.standard_normal(len(starts))) * queue
        took += self._stalled(self.stalls[name], starts, busy)
        ends = np.floor(starts + took).astype(np.int64)
        is_out = ((starts[:, None] >= self.outages[:, 0]) & (starts[:, None] < self.outages[:, 1])).any(
            axis=1
        )
        fails = self.random.random(len(starts)) < np.where(is_out, 0.5, version.errors)
        is_judged = self.random.random(len(starts)) < self.conditions.judged
        is_right = self.random.random(len(starts)) < version.accuracy
        bins = np.ceil(np.log(took) * _PER_LOG).astype(np.int64)
        for second in np.unique(ends).tolist():
            here = ends == second
            slot = self.slots.setdefault(second, {}).setdefault(name, Slot())
            slot.requests += int(here.sum())
            slot.errors += int(fails[here].sum())
            answered = here & ~fails
            numbers, counts = np.unique(bins[answered], return_counts=True)
            slot.latency.merge(Sketch(dict(zip(numbers.tolist(), counts.tolist(), strict=True))))
            slot.judged += int((answered & is_judged).sum())
            slot.right += float((answered & is_judged & is_right).sum())

    def _stalled(self, stalls: Array, starts: Array, busy: float) -> Array:
        """How long each request waits for replicas that stand still, and for what has queued meanwhile."""
        waits = np.zeros(len(starts))
        for began, ended in stalls.tolist():
            if began > starts[-1] or ended + 60 < starts[0]:
                continue
            inside = (starts >= began) & (starts < ended)
            waits = np.maximum(waits, np.where(inside, ended - starts + busy * (starts - began), 0.0))
            left = busy * (ended - began) - (1 - busy) * (starts - ended)
            waits = np.maximum(waits, np.where(starts >= ended, left, 0.0))
        return waits

    def _compares(self, starts: Array) -> None:
        differs = self.random.random(len(starts)) < self.candidate.flips
        fails = self.random.random(len(starts)) < self.candidate.errors
        seconds = np.floor(starts).astype(np.int64)
        for second in np.unique(seconds).tolist():
            here = seconds == second
            slot = self.slots.setdefault(second, {}).setdefault("candidate", Slot())
            slot.copies += int(here.sum())
            slot.copy_errors += int((here & fails).sum())
            slot.compared += int((here & ~fails).sum())
            slot.differing += int((here & ~fails & differs).sum())
            slot.flipped += float((here & ~fails & differs).sum())
