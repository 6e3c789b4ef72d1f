"""What optimization did, as a table for the terminal and as JSON; the page is in `page.py`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from io import StringIO
from typing import TYPE_CHECKING

from engines.manifest import SessionOptions
from optimize.goals import Goals, Miss
from optimize.machine import Machine
from optimize.measure import Measured

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class Row:
    """One version and its figures."""

    version: str
    precision: str
    session: SessionOptions  # the faster of those tried
    measured: Measured


@dataclass(frozen=True, slots=True)
class Report:
    """Before and after. Speed is that of one row at a time on one thread."""

    model: str
    before: Row
    after: Row
    goals: Goals
    misses: tuple[Miss, ...]
    machine: Machine
    command: str  # repeats this run
    created: str  # UTC, ISO 8601

    @property
    def speedup(self) -> float:
        return self.after.measured.rows_per_s / self.before.measured.rows_per_s

    @property
    def size_ratio(self) -> float:
        return self.after.measured.size_bytes / self.before.measured.size_bytes

    @property
    def drop(self) -> float:
        return self.before.measured.accuracy - self.after.measured.accuracy

    def gains(self) -> dict[str, float]:
        return {"speedup": self.speedup, "size_ratio": self.size_ratio, "drop": self.drop}

    def figures(self) -> dict[str, float]:
        """The numbers that the manifest of the new version keeps."""
        return {**self.after.measured.figures(), **self.gains()}


def comparison(report: Report) -> list[tuple[str, str, str]]:
    """What is compared, before and after, ready to be laid out."""
    first, second = report.before, report.after
    before, after = first.measured, second.measured
    size = f"{after.size_bytes / 1e6:.1f} MB ({report.size_ratio:.2f} of it)"
    latency = f"{after.latency_ms:.2f} ms ({report.speedup:.2f} times as fast)"
    alone = f"mean {after.agreement_mean:.4f}, least {after.agreement_min:.4f}"
    padded = f"mean {after.padded_mean:.4f}, least {after.padded_min:.4f}"
    return [
        ("version", f"{first.version} ({first.precision})", f"{second.version} ({second.precision})"),
        ("size", f"{before.size_bytes / 1e6:.1f} MB", size),
        ("latency, one row", f"{before.latency_ms:.2f} ms", latency),
        ("rows/s, one thread", f"{before.rows_per_s:.0f}", f"{after.rows_per_s:.0f}"),
        ("accuracy", f"{before.accuracy:.4f}", f"{after.accuracy:.4f} ({-report.drop:+.4f})"),
        ("cosine to the original", "", alone),
        ("the same, rows padded", "", padded),
        ("graph passes left out", _left_out(first), _left_out(second)),
    ]


def as_table(report: Report) -> RenderableType:
    """A rich table of before and after."""
    from rich.table import Table
    from rich.text import Text

    table = Table("", "before", "after", title=Text(report.model))
    for row in comparison(report):
        table.add_row(*(Text(cell) for cell in row))
    return table


def as_text(report: Report) -> str:
    """The table, what became of the goals, and the command, as plain text."""
    from rich.console import Console

    file = StringIO()
    Console(file=file, width=100, color_system=None, force_terminal=False).print(as_table(report))
    if report.misses:
        goals = "\n".join(f"missed {miss}" for miss in report.misses)
    else:
        goals = "no goal was set" if report.goals == Goals() else "every goal is reached"
    return f"{file.getvalue().rstrip()}\n{goals}\nrepeat with: {report.command}"


def as_json(report: Report) -> bytes:
    """The whole report; sizes in bytes, times in milliseconds."""
    import orjson

    told = {
        **{field.name: getattr(report, field.name) for field in fields(report)},
        "before": _told(report.before),
        "after": _told(report.after),
        "gains": report.gains(),
    }
    return orjson.dumps(told, option=orjson.OPT_INDENT_2)


def _told(row: Row) -> dict[str, object]:
    return {
        "version": row.version,
        "precision": row.precision,
        "session": row.session.model_dump(mode="json"),
        **row.measured.figures(),
    }


def _left_out(row: Row) -> str:
    return ", ".join(row.session.disabled_optimizers) or "none"
