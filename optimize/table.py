"""The report for the terminal."""

from __future__ import annotations

from collections.abc import Collection
from io import StringIO
from textwrap import fill
from typing import TYPE_CHECKING

from optimize import report_words as words
from optimize.report import Report, Row

if TYPE_CHECKING:
    from rich.console import RenderableType

_WIDTH = 110  # of plain text, in characters


def as_table(report: Report) -> RenderableType:
    """One line per version, the original first; ratios are to the original. Reasons follow below."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    rows = (report.original, *report.candidates)
    engines = {row.engine for row in rows}
    table = Table(title=Text(_title(report, engines)), box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("version", overflow="fold")
    for name in ("engine", "size", "latency, one row", "accuracy", "outcome"):
        if name != "engine" or len(engines) > 1:
            table.add_column(name, no_wrap=True)
    for row in rows:
        where = [words.engine(row.engine)] if len(engines) > 1 else []
        cells = (row.name, *where, *_figures(report, row), words.outcome(row))
        style = "bold" if row.status == "chosen" else "" if row.measured else "dim"
        table.add_row(*(Text(cell) for cell in cells), style=style)
    reasons = [f"{words.name(report, row)} {row.status}: {row.reason}" for row in rows if row.reason]
    compared = (
        f"In parentheses: against {words.on_engine(report.original)}, one row at a time on one thread, "
        f"measured in turns."
    )
    return Group(table, *(Text(f"  {line}") for line in (compared, *reasons)))


def as_text(report: Report) -> str:
    """The table, what became of the goals, and the command, as plain text."""
    from rich.console import Console

    file = StringIO()
    Console(file=file, width=_WIDTH, color_system=None, force_terminal=False).print(as_table(report))
    table = "\n".join(line.rstrip() for line in file.getvalue().strip("\n").splitlines())
    told = fill(words.headline(report), _WIDTH)
    return "\n".join([table, "", told, _goals(report), f"repeat with: {report.command}"])


def _goals(report: Report) -> str:
    asked = list(words.goals(report))
    if not asked:
        return "no goal was set"
    if report.nearest is None:
        return "\n".join(f"missed {goal.name}: wanted {goal.wanted}, nothing was measured" for goal in asked)
    return "\n".join(f"missed {miss}" for miss in report.misses) or "every goal is reached"


def _title(report: Report, engines: Collection[str]) -> str:
    return f"{report.model} on {words.engine(*engines)}" if len(engines) == 1 else report.model


def _figures(report: Report, row: Row) -> tuple[str, str, str]:
    measured = row.measured
    if measured is None:
        return "", "", ""
    size, latency = words.size(measured.size_bytes), words.ms(measured.latency_ms)
    accuracy = f"{measured.accuracy:.4f}"
    if row is report.original:
        return size, latency, accuracy
    gains = report.gains_of(row)
    return (
        f"{size} ({gains.size_ratio:.2f})",
        f"{latency} ({gains.speedup:.2f}x)",
        f"{accuracy} ({words.change(gains.drop)})",
    )


def comparison(report: Report) -> list[tuple[str, str, str]]:
    """The original and the chosen version side by side: what is compared, before, after."""
    first, second = report.before, report.after
    before, after = first.measured, second.measured
    before_ms = after.original_ms or before.latency_ms
    size = f"{words.size(after.size_bytes)} ({report.size_ratio:.2f} of it)"
    latency = f"{words.ms(after.latency_ms)} ({report.speedup:.2f} times as fast)"
    alone = f"mean {after.agreement_mean:.4f}, least {after.agreement_min:.4f}"
    padded = f"mean {after.padded_mean:.4f}, least {after.padded_min:.4f}"
    return [
        ("version", f"{first.version} ({first.name})", f"{second.version} ({second.name})"),
        ("engine", words.engine(first.engine), words.engine(second.engine)),
        ("size", words.size(before.size_bytes), size),
        ("latency, one row", words.ms(before_ms), latency),
        ("rows/s, one thread", f"{1000 / before_ms:.0f}", f"{after.rows_per_s:.0f}"),
        ("accuracy", f"{before.accuracy:.4f}", f"{after.accuracy:.4f} ({words.change(report.drop)})"),
        ("cosine to the original", "", alone),
        ("the same, rows padded", "", padded),
        ("graph passes left out", _left_out(first), _left_out(second)),
    ]


def _left_out(row: Row) -> str:
    return ", ".join(row.session.disabled_optimizers) or "none"
