"""Which set-up serves a version fastest on this machine: measured, several at a time, in turns."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

import numpy as np

from batching.grouping import auto_grouping, may_pad
from batching.learn import Seen
from batching.shapes import Sizes
from engines.artifact import Artifact
from engines.manifest import Machine, Manifest, Tuned
from headrace.config import BatchingConfig, Config, ModelConfig
from headrace.errors import ConfigRejected
from optimize.demand import draw, variable_dims
from optimize.instance import Instance, Order
from optimize.progress import Line, Progress
from optimize.saturate import Ran

BATCHES = (4, 8, 16, 32)
PADDINGS = (0.05, 0.1, 0.25)
NOISE = 0.9  # of the fastest: as fast, and then the simpler one is better
_MAYBE = 0.85  # of the fastest so far: may turn out as fast
_FINALISTS = 5
_LAST_TURNS = 5  # at least so many in the last stage
_SHORTEST_S = 0.02  # of a turn
_DRAWN = 256  # requests that are run over and over
_SIMPLE = {"exact": 0, "nearest": 1, "buckets": 2}

Grouping = Literal["exact", "nearest", "buckets"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A set-up to be measured."""

    instances: int
    streams: int  # batches that each engine runs at a time
    threads: int  # of each batch
    max_batch: int  # rows
    max_padding: float
    grouping: Grouping
    engine: str = ""  # another one than the version's own

    @property
    def simplicity(self) -> tuple[float, ...]:
        """Smaller is simpler: its own engine, then fewer instances, then fewer streams, smaller batches and
        less padding."""
        shape = self.max_batch, _SIMPLE[self.grouping], self.max_padding
        return bool(self.engine), self.instances, self.streams, *shape, self.threads


@dataclass(frozen=True, slots=True)
class Fixed:
    """What the configuration gives already; None is to be found."""

    instances: int | None = None
    streams: int | None = None
    threads: int | None = None
    max_batch: int | None = None
    max_padding: float | None = None
    grouping: Grouping | None = None


@dataclass(slots=True)
class Row:
    """What was measured of one candidate, a figure for each turn."""

    candidate: Candidate
    turns: list[float] = field(default_factory=list)  # rows/s of all instances together
    rate: float = 0.0  # rows/s, as `judge` has it
    mean_batches: list[float] = field(default_factory=list)
    fills: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Outcome:
    """All candidates, the fastest first; `chosen` is the simplest of those as fast as the fastest."""

    rows: list[Row]
    chosen: Row
    default: Row  # as it would run untuned
    tuned: Tuned


def fixed_by(config: Config, model: ModelConfig) -> Fixed:
    """What a configuration gives of a set-up, which is then not searched."""
    batching, given = model.batching, model.batching.model_fields_set
    is_inline = model.placement == "inline"
    return Fixed(
        instances=(config.gateways if "gateways" in config.model_fields_set else None)
        if is_inline
        else model.replicas,
        streams=batching.permits if "permits" in given else None,
        threads=model.threads if "threads" in model.model_fields_set else None,
        max_batch=batching.max_batch if "max_batch" in given else None,
        max_padding=batching.max_padding if "max_padding" in given else None,
        grouping=None if batching.grouping == "auto" else batching.grouping,
    )


def candidates(
    manifest: Manifest, cores: int, fixed: Fixed, buckets: Sequence[Sizes], engines: Iterable[str] = ()
) -> tuple[list[Candidate], Candidate]:
    """Every set-up worth measuring, on other engines too, and among them the one that runs untuned."""
    found = [
        Candidate(instances, streams, threads, max_batch, max_padding, grouping, engine)
        for engine in ("", *engines)
        for instances, streams, threads in _spent(cores, fixed)
        for grouping in _groupings(manifest, fixed, buckets)
        for max_batch in _batches(manifest, fixed)
        for max_padding in _paddings(grouping, fixed)
    ]
    plain = ModelConfig()
    default = Candidate(
        fixed.instances or Config.model_fields["gateways"].default,
        fixed.streams or plain.batching.permits,
        fixed.threads or plain.threads,
        fixed.max_batch or plain.batching.max_batch,
        plain.batching.max_padding if fixed.max_padding is None else fixed.max_padding,
        fixed.grouping or auto_grouping(may_pad(manifest.grouping, manifest.signature), manifest.latencies),
    )
    return list(dict.fromkeys([default, *found])), default


def _spent(cores: int, fixed: Fixed) -> list[tuple[int, int, int]]:
    """Ways to spend the cores on instances, their streams and the threads of these: of an instance's share
    either all threads for one batch, or as many batches as there can be."""
    ways = []
    for instances in [fixed.instances] if fixed.instances else range(1, cores + 1):
        share = max(1, cores // instances)
        most = max(1, share // (fixed.threads or 1))
        numbers = [fixed.streams] if fixed.streams else list(dict.fromkeys((1, most)))
        ways += [(instances, streams, fixed.threads or max(1, share // streams)) for streams in numbers]
    fitting = [way for way in ways if math.prod(way) <= cores]
    if not fitting:
        return [min(ways, key=math.prod)]
    spent = max(map(math.prod, fitting))
    return [way for way in fitting if math.prod(way) == spent]


def _groupings(manifest: Manifest, fixed: Fixed, buckets: Sequence[Sizes]) -> list[Grouping]:
    if fixed.grouping is not None:
        return [fixed.grouping]
    if not may_pad(manifest.grouping, manifest.signature) or not variable_dims(manifest.signature):
        return ["exact"]
    return ["exact", "nearest", "buckets"] if buckets else ["exact", "nearest"]


def _batches(manifest: Manifest, fixed: Fixed) -> tuple[int, ...]:
    if fixed.max_batch is not None:
        return (fixed.max_batch,)
    return BATCHES if manifest.signature.is_batchable else BATCHES[:1]


def _paddings(grouping: Grouping, fixed: Fixed) -> tuple[float, ...]:
    if fixed.max_padding is not None:
        return (fixed.max_padding,)
    return PADDINGS if grouping == "nearest" else (BatchingConfig().max_padding,)


def stages(number: int) -> list[tuple[int, int]]:
    """(candidates, turns of each): the worse half leaves after each stage, the others get twice the turns."""
    found = []
    turns = 1
    while number > _FINALISTS:
        found.append((number, turns))
        number, turns = max(_FINALISTS, math.ceil(number / 2)), 2 * turns
    return [*found, (number, max(turns, _LAST_TURNS))]


def judge(rows: Sequence[Row]) -> None:
    """Set the rate of rows that had the same turns.

    Whatever else the machine does slows neighbours in time alike, so each turn is taken relative to the
    mean of its round, and the median of those counts.
    """
    turns = np.array([row.turns for row in rows])
    rounds = turns.mean(axis=0)
    shares = np.median(turns / rounds, axis=1)
    for row, share in zip(rows, shares, strict=True):
        row.rate = float(share * np.median(rounds))


def survivors(rows: Sequence[Row], number: int, default: Row) -> list[Row]:
    """Those to go on with: the untuned one, then by turns the fastest and the simplest of those that may
    turn out as fast."""
    fastest = sorted(rows, key=lambda row: -row.rate)
    simplest = sorted(
        (row for row in rows if row.rate >= _MAYBE * fastest[0].rate),
        key=lambda row: (row.candidate.simplicity, -row.rate),
    )
    pairs = zip(fastest, [*simplest, *fastest], strict=False)
    order = [default, *(row for pair in pairs for row in pair)]
    return list({id(row): row for row in order}.values())[:number]


def choose(rows: Sequence[Row]) -> Row:
    """The simplest of those as fast as the fastest."""
    best = max(row.rate for row in rows)
    near = (row for row in rows if row.rate >= NOISE * best)
    return min(near, key=lambda row: (row.candidate.simplicity, -row.rate))


def tune(
    artifact: Artifact,
    seen: Sequence[Seen],
    machine: Machine,
    *,
    seconds: float,
    clients: int,
    buckets: Sequence[Sizes] = (),
    fixed: Fixed = Fixed(),
    others: Mapping[str, Artifact] | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Measure for about so many seconds, `clients` requests at a time, with requests as they were seen.
    `others` is the version as other engines run it, by these, which are tried as well."""
    artifacts = {"": artifact, **(others or {})}
    found, default = candidates(artifact.manifest, machine.cores, fixed, buckets, others or ())
    plan = stages(len(found))
    num_turns = sum(number * turns for number, turns in plan)
    turn_s = seconds / num_turns
    if turn_s < _SHORTEST_S:
        raise ConfigRejected(
            f"{seconds:g} s are too few for {len(found)} set-ups; give at least "
            f"{math.ceil(num_turns * _SHORTEST_S)} s, or say in the configuration what is settled"
        )
    sizes = [dict(size) for size in draw(seen, _DRAWN)]
    rows = {candidate: Row(candidate) for candidate in found}
    left = list(rows.values())
    with ExitStack() as stack:
        most = max(candidate.instances for candidate in found)
        processes = {
            engine: [stack.enter_context(Instance(each)) for _ in range(most)]
            for engine, each in artifacts.items()
        }
        line = Line(progress, f"measuring {len(found)} set-ups", num_turns)
        for number, turns in plan:
            if number < len(left):
                left = survivors(left, number, rows[default])
            for row in _in_turns(left, turns):
                _measure(row, processes[row.candidate.engine], sizes, buckets, clients, turn_s)
                line.advance()
            judge(left)
        line.finish()
    chosen = choose(left)
    ranked = sorted(rows.values(), key=lambda row: (row not in left, -row.rate))
    tuned = _tuned(chosen, rows[default], left, machine, buckets, clients)
    return Outcome(ranked, chosen, rows[default], tuned)


def _in_turns(rows: Sequence[Row], turns: int) -> Iterator[Row]:
    """Each row once in every round; there and back, so that engines are seldom loaded anew."""
    order = sorted(
        rows,
        key=lambda row: (
            row.candidate.engine,
            row.candidate.threads,
            row.candidate.streams,
            row.candidate.instances,
        ),
    )
    for number in range(turns):
        yield from order if number % 2 else reversed(order)


def _measure(
    row: Row,
    processes: Sequence[Instance],
    sizes: list[dict[str, int]],
    buckets: Sequence[Sizes],
    clients: int,
    seconds: float,
) -> None:
    candidate = row.candidate
    waiting = max(1, math.ceil(clients / candidate.instances))
    batching = _batching(candidate, buckets)

    def run_all(until: float) -> list[Ran]:
        chosen = processes[: candidate.instances]
        for process in chosen:
            process.tell(Order(candidate.threads, batching, sizes, waiting, until))
        return [process.hear(until) for process in chosen]

    run_all(0.0)  # loads the engines
    found = run_all(time.monotonic() + seconds)
    row.turns.append(sum(ran.rows / ran.seconds for ran in found))
    row.mean_batches.append(sum(ran.rows for ran in found) / sum(ran.batches for ran in found))
    row.fills.append(sum(ran.useful for ran in found) / max(1, sum(ran.elements for ran in found)))


def _batching(candidate: Candidate, buckets: Sequence[Sizes]) -> dict[str, Any]:
    return {
        "grouping": candidate.grouping,
        "max_batch": candidate.max_batch,
        "max_padding": candidate.max_padding,
        "permits": candidate.streams,
        "buckets": [dict(bucket) for bucket in buckets] if candidate.grouping == "buckets" else [],
        "oversize": "exact",
    }


def _tuned(
    chosen: Row, default: Row, left: Sequence[Row], machine: Machine, buckets: Sequence[Sizes], clients: int
) -> Tuned:
    candidate = chosen.candidate
    figures: Mapping[str, float] = {
        "rows_per_s": chosen.rate,
        "mean_batch": median(chosen.mean_batches),
        "fill": median(chosen.fills),
        "default_rows_per_s": default.rate,
        "fastest_rows_per_s": max(row.rate for row in left),
        "clients": float(clients),
    }
    return Tuned(
        instances=candidate.instances,
        threads=candidate.threads,
        permits=candidate.streams,
        max_batch=candidate.max_batch,
        max_padding=candidate.max_padding,
        grouping=candidate.grouping,
        buckets=tuple(dict(bucket) for bucket in buckets),
        machine=machine,
        figures={name: round(value, 4) for name, value in figures.items()},
    )
