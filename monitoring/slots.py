"""What a version did within some seconds, as counts and sketches that add up over processes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from headrace.sketch import Sketch
from monitoring.stages import STAGES


@dataclass(slots=True)
class Answers:
    """Of one version. A stage that a request did not go through is in no sketch, yet the sums are of all."""

    rows: int = 0
    tiers: Counter[str] = field(default_factory=Counter)  # answers by where they came from
    errors: Counter[str] = field(default_factory=Counter)  # by kind
    saved_s: float = 0.0  # of engines, by what was remembered
    latency: Sketch = field(default_factory=Sketch)  # seconds, of all answers
    stages: tuple[Sketch, ...] = field(default_factory=lambda: tuple(Sketch() for _ in STAGES))
    spent_s: list[float] = field(default_factory=lambda: [0.0] * len(STAGES))

    @property
    def count(self) -> int:
        return self.tiers.total()

    def add(self, other: Answers) -> None:
        self.rows += other.rows
        self.tiers.update(other.tiers)
        self.errors.update(other.errors)
        self.saved_s += other.saved_s
        self.latency.merge(other.latency)
        for mine, its in zip(self.stages, other.stages, strict=True):
            mine.merge(its)
        self.spent_s = [mine + its for mine, its in zip(self.spent_s, other.spent_s, strict=True)]


@dataclass(slots=True)
class Batches:
    """Of one group of shapes of one version; all are sums over its batches."""

    count: int = 0
    rows: int = 0
    useful: int = 0  # elements
    elements: int = 0  # padding included
    engine_s: float = 0.0
    wait_s: float = 0.0  # of each batch's oldest request

    def add(self, other: Batches) -> None:
        self.count += other.count
        self.rows += other.rows
        self.useful += other.useful
        self.elements += other.elements
        self.engine_s += other.engine_s
        self.wait_s += other.wait_s


@dataclass(slots=True)
class Quality:
    """How right a version's answers were, as far as somebody has looked; all are sums."""

    judged: int = 0
    right: float = 0.0
    compared: int = 0  # answers to copies, with the stable version's
    differing: int = 0
    flipped: float = 0.0

    def add(self, other: Quality) -> None:
        self.judged += other.judged
        self.right += other.right
        self.compared += other.compared
        self.differing += other.differing
        self.flipped += other.flipped


Named = tuple[str, str]  # model and version


@dataclass(slots=True)
class Slot:
    """What one process saw within one second, or what several of these add up to."""

    answers: dict[Named, Answers] = field(default_factory=dict)
    batches: dict[tuple[str, str, str], Batches] = field(default_factory=dict)  # and the group
    quality: dict[Named, Quality] = field(default_factory=dict)

    def add(self, other: Slot) -> None:
        for named, answers in other.answers.items():
            self.answers_of(named).add(answers)
        for group, batches in other.batches.items():
            self.batches_of(group).add(batches)
        for named, quality in other.quality.items():
            self.quality_of(named).add(quality)

    def answers_of(self, named: Named) -> Answers:
        if named not in self.answers:
            self.answers[named] = Answers()
        return self.answers[named]

    def batches_of(self, group: tuple[str, str, str]) -> Batches:
        if group not in self.batches:
            self.batches[group] = Batches()
        return self.batches[group]

    def quality_of(self, named: Named) -> Quality:
        if named not in self.quality:
            self.quality[named] = Quality()
        return self.quality[named]
