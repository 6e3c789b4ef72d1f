"""Engines of one or two versions measured in turns, each in a process of its own."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np

from engines.artifact import Artifact
from optimize.instance import Calls, Instance, Order
from optimize.progress import Line, Progress
from optimize.saturate import Ran
from rollout.paired import Verdict, combine, judge, suspects
from rollout.workload import FULL_TURN_S, Measure, Workload, measures_of

_FULL = (Measure("throughput"), Measure("cost"))
_COMPARED_BATCHES = (1, 8)  # what lies between them follows them
_NEEDED_FOR_P95 = 20  # calls
_TAIL = 2.0  # times the tolerance: the P95 of so short a turn is less sure than its median
_PROMISING = 10.0  # evidence that is worth more time
_LEAST_ROUNDS = 2
_USUAL, _LONGEST = 0.5, 0.8  # of the time that is left for a run; the longest when something looks bad
_PER_ROUND = 3  # pairs of each shape for one of a full queue, which takes as long as several of them
_CLOCK_S = 1e-6  # a turn uses some of the CPU, whatever its clock says

Pair = tuple[float, float]  # old, new


@dataclass(frozen=True, slots=True)
class Side:
    """A version, and the interpreter of another environment to run it in, if it is not this one."""

    artifact: Artifact
    python: Path | None = None


@dataclass(slots=True)
class Timings:
    """All that was measured of one version, in the order of its workload."""

    calls: dict[Measure, list[float]] = field(default_factory=dict)  # seconds, by median latency
    full: list[Ran] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Compared:
    """The median of all turns by side, and what the pairs say."""

    old: Mapping[Measure, float]
    new: Mapping[Measure, float]
    verdicts: Mapping[Measure, Verdict]
    num_runs: int  # of new processes


def measure_alone(side: Side, work: Workload, seconds: float, progress: Progress | None = None) -> Timings:
    """Every shape in every batch, and a full queue, in rounds for about so many seconds (two at least)."""
    found = Timings()
    line = Line(progress, "measuring")
    calls = work.calls(work.batches)
    with Instance(side.artifact, side.python) as engine:
        _load([engine], work)
        until = time.monotonic() + seconds
        while len(found.full) < _LEAST_ROUNDS or time.monotonic() < until:
            for each in calls:
                timed = engine.time(each).calls_s
                found.calls.setdefault(measures_of(each)[0], []).extend(timed)
            found.full.append(engine.run(work.order, FULL_TURN_S))
            line.advance()
    line.finish()
    return found


def compare(
    old: Side,
    new: Side,
    work: Workload,
    *,
    seconds: float,
    tolerance: float,
    progress: Progress | None = None,
    seed: int | None = None,
) -> Compared:
    """Whether the new version is slower or dearer than the old one by more than the tolerance.

    It ends as soon as that is clear, at the latest after about so many seconds, what processes take to
    start left out; what is not clear by then is "unsure". EngineFailed when one of the processes ends.
    """
    line = Line(progress, "measuring old and new in turns")
    lots = random.Random(seed)  # noqa: S311  no secrets
    match = _Match((old, new), work, tolerance, lots, line, seconds)
    runs: list[Mapping[Measure, Verdict]] = []
    wanted: list[Measure] = []
    while not runs or wanted:
        runs.append(match.run(wanted))
        wanted = suspects(runs)
    line.finish()
    first, second = (
        {m: median(p[side] for p in pairs) for m, pairs in match.pairs.items()} for side in (0, 1)
    )
    return Compared(first, second, combine(runs), len(runs))


@dataclass(slots=True)
class _Match:
    sides: tuple[Side, Side]
    work: Workload
    tolerance: float
    lots: random.Random
    line: Line
    left_s: float
    pairs: dict[Measure, list[Pair]] = field(default_factory=dict)  # of all runs

    def run(self, wanted: Sequence[Measure]) -> dict[Measure, Verdict]:
        """What pairs of two new processes say of the measures that are wanted (none named: of all)."""
        pairs: dict[Measure, list[Pair]] = {}
        tasks: list[Calls | Order] = [*self.work.calls(_COMPARED_BATCHES), self.work.order]
        if wanted:
            tasks = [task for task in tasks if not set(wanted).isdisjoint(_measures(task))]
        num_measures = len(wanted) or 2 * len(tasks)
        with ExitStack() as stack:
            engines = [stack.enter_context(Instance(side.artifact, side.python)) for side in self.sides]
            _load(engines, self.work)
            for task in tasks:
                self._pair(engines, task)  # warms up
            began = time.monotonic()
            while True:
                for task in _round(tasks):
                    for measure, pair in self._pair(engines, task).items():
                        if not wanted or measure in wanted:
                            pairs.setdefault(measure, []).append(pair)
                self.line.advance()
                verdicts = {m: self._verdict(m, found, num_measures) for m, found in pairs.items()}
                left = {m for m, verdict in verdicts.items() if _is_open(m, verdict, wanted)}
                tasks = [task for task in tasks if not left.isdisjoint(_measures(task))]
                looks_bad = any(verdicts[measure].evidence >= _PROMISING for measure in left)
                took_s = time.monotonic() - began
                if not tasks or took_s >= self.left_s * (_LONGEST if looks_bad else _USUAL):
                    break
        self.left_s -= took_s
        for measure, found in pairs.items():
            self.pairs.setdefault(measure, []).extend(found)
        return verdicts

    def _pair(self, engines: Sequence[Instance], task: Calls | Order) -> dict[Measure, Pair]:
        """Old and new, one right after the other, in an order drawn by lot."""
        sides = [0, 1]
        self.lots.shuffle(sides)
        told = {side: _turn(engines[side], task) for side in sides}
        return {measure: (old, told[1][measure]) for measure, old in told[0].items() if measure in told[1]}

    def _verdict(self, measure: Measure, pairs: Sequence[Pair], num_measures: int) -> Verdict:
        tolerance = self.tolerance * (_TAIL if measure.kind == "p95" else 1.0)
        log_ratios = [float(found) for found in np.log([new / old for old, new in pairs])]
        return judge(log_ratios, tolerance, num_measures)


def _round(tasks: Sequence[Calls | Order]) -> list[Calls | Order]:
    calls = [task for task in tasks if isinstance(task, Calls)]
    return [*calls * _PER_ROUND, *(task for task in tasks if isinstance(task, Order))]


def _load(engines: Sequence[Instance], work: Workload) -> None:
    for engine in engines:
        engine.tell(work.order)
    for engine in engines:
        engine.hear(work.order.until)


def _measures(task: Calls | Order) -> tuple[Measure, Measure]:
    return measures_of(task) if isinstance(task, Calls) else _FULL


def _turn(engine: Instance, task: Calls | Order) -> dict[Measure, float]:
    first, second = _measures(task)
    if isinstance(task, Order):
        ran = engine.run(task, FULL_TURN_S)
        return {first: ran.seconds / ran.rows, second: max(ran.cpu_s, _CLOCK_S) / ran.rows}
    calls_s = engine.time(task).calls_s
    found = {first: median(calls_s)}
    if len(calls_s) >= _NEEDED_FOR_P95:
        found[second] = float(np.percentile(calls_s, 95))
    return found


def _is_open(measure: Measure, verdict: Verdict, wanted: Sequence[Measure]) -> bool:
    """A P95 is hardly ever clear on a busy machine, so it is not waited for unless it looks bad."""
    if verdict.state != "unsure":
        return False
    return bool(wanted) or measure.kind != "p95" or verdict.evidence >= _PROMISING
