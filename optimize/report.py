"""What optimization did: each version that was tried, its figures, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Literal, cast

from engines.manifest import SessionOptions
from headrace.errors import GoalMissed
from optimize.goals import Goals, Miss, judge
from optimize.machine import Machine
from optimize.measure import Measured, Toggle

Status = Literal["original", "chosen", "good", "missed", "refused", "skipped", "failed"]
_LEAST = 1e-3  # a goal of 0 has no relative shortfall; this stands for it


@dataclass(frozen=True, slots=True)
class Row:
    """One version on one engine."""

    name: str  # "fp32", "int8-static", "distill > int8-static"
    steps: tuple[str, ...]  # what was done, in order
    engine: str
    precision: str
    status: Status
    reason: str = ""  # why it was refused, skipped or failed, or which goals it missed
    version: str = ""  # once published
    session: SessionOptions = field(default_factory=SessionOptions)  # the fastest of those tried
    measured: Measured | None = None  # None: refused, skipped or failed
    stages: Mapping[str, str] = field(default_factory=dict)  # of the technique: what each of them did
    toggles: tuple[Toggle, ...] = ()
    facts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Layer:
    """What quantizing one layer alone costs."""

    name: str
    kind: str
    error: float  # 1 - cosine to the original's outputs


@dataclass(frozen=True, slots=True)
class Gains:
    """A version against the original."""

    speedup: float  # one row at a time on one thread, measured in turns
    size_ratio: float
    drop: float  # accuracy lost; below 0: won


if TYPE_CHECKING:

    class MeasuredRow(Row):
        """The original and the chosen version are measured."""

        measured: Measured


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that one run found; sizes in bytes, times in milliseconds."""

    model: str
    original: Row
    candidates: tuple[Row, ...]  # without the original
    goals: Goals
    sensitivity: tuple[Layer, ...]  # worst first; empty: not measured
    machine: Machine
    command: str  # repeats this run
    created: str  # UTC, ISO 8601
    seconds: float  # how long it took

    @property
    def chosen(self) -> Row | None:
        return next((row for row in self.candidates if row.status == "chosen"), None)

    @property
    def nearest(self) -> Row | None:
        """The chosen version, or else the measured one that falls least short of the goals."""
        measured = [row for row in self.candidates if row.measured]
        return self.chosen or min(measured, key=self._shortfall, default=None)

    @property
    def before(self) -> MeasuredRow:
        return cast("MeasuredRow", self.original)

    @property
    def after(self) -> MeasuredRow:
        """The chosen version; GoalMissed when there is none."""
        if self.chosen is None:
            raise GoalMissed(f"no version of {self.model} was chosen")
        return cast("MeasuredRow", self.chosen)

    @property
    def speedup(self) -> float:
        return self.gains_of(self.after).speedup

    @property
    def size_ratio(self) -> float:
        return self.gains_of(self.after).size_ratio

    @property
    def drop(self) -> float:
        return self.gains_of(self.after).drop

    @property
    def misses(self) -> tuple[Miss, ...]:
        """The goals that the chosen version misses, or else those that the nearest one misses."""
        return self.misses_of(self.nearest) if self.nearest else ()

    def gains(self) -> dict[str, float]:
        return asdict(self.gains_of(self.after))

    def figures(self) -> dict[str, float]:
        """The numbers that the manifest of the chosen version keeps."""
        return {**self.after.measured.figures(), **self.gains()}

    def gains_of(self, row: Row) -> Gains:
        """What a measured version brings."""
        before, after = self.before.measured, row.measured
        assert after is not None, f"{row.name} was not measured"
        return Gains(
            speedup=(after.original_ms or before.latency_ms) / after.latency_ms,
            size_ratio=after.size_bytes / before.size_bytes,
            drop=before.accuracy - after.accuracy,
        )

    def misses_of(self, row: Row) -> tuple[Miss, ...]:
        assert row.measured is not None, f"{row.name} was not measured"
        return tuple(judge(self.goals, self.before.measured, row.measured))

    def _shortfall(self, row: Row) -> float:
        """How far a version is from its goals, each relative to what was wanted."""
        return sum(
            abs(miss.reached - miss.wanted) / max(abs(miss.wanted), _LEAST) for miss in self.misses_of(row)
        )


def as_json(report: Report) -> bytes:
    """The whole report by its field names, and the gains of the chosen version (null: none chosen)."""
    import orjson

    told = {
        **{part.name: getattr(report, part.name) for part in fields(report)},
        "original": _told(report.original),
        "candidates": [_told(row) for row in report.candidates],
        "gains": report.gains() if report.chosen else None,
    }
    return orjson.dumps(told, option=orjson.OPT_INDENT_2)


def _told(row: Row) -> dict[str, object]:
    told = {part.name: getattr(row, part.name) for part in fields(row)}
    return {**told, "session": row.session.model_dump(mode="json")}
