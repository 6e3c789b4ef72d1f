"""What a load has measured, drawn for a terminal: while it runs, at its end, and beside another (pure)."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from headrace.sketch import merged
from monitoring.glyphs import NOTHING, bar, curve, percent, rate, seconds
from monitoring.histogram import lines
from rollout.effects import Effect
from rollout.runs import Run

_BINS = 18
_CURVE_S = 1.0
_NAMES = {
    "requests": "requests",
    "requests_per_s": "answers/s",
    "rows_per_s": "rows/s",
    "p50": "P50",
    "p95": "P95",
    "p99": "P99",
    "max": "slowest",
    "errors": "errors",
    "hits": "cached",
}
_EFFECTS = {"requests_per_s": "throughput"}  # the others are called the same


def live(run: Run, elapsed_s: float, warm_up_s: float, total_s: float, width: int) -> RenderableType:
    """The run so far. What is not over yet is in no figure."""
    left_s = max(0.0, total_s - elapsed_s)
    phase = "warming up" if elapsed_s < warm_up_s else "running"
    progress = bar(elapsed_s / total_s, min(30, width // 3))
    head = f"{phase} {progress} {min(elapsed_s, total_s):.0f} of {total_s:.0f} s, {left_s:.0f} s left"
    done = max(0, min(len(run.windows), int((elapsed_s - warm_up_s) / run.window_s)))
    so_far = Run(run.load, run.rows, run.window_s, run.windows[:done], run.statuses)
    return Group(Text(head), *_body(so_far, width))


def result(run: Run, width: int) -> RenderableType:
    """All of a run."""
    return Group(*_body(run, width))


def beside(before: Run, after: Run, found: Sequence[Effect]) -> RenderableType:
    """Two runs as a table, with ratios (or differences) and what those surely lie between."""
    table = Table("", "before", "now", "now to before", "surely between")
    for column in table.columns[1:]:
        column.justify = "right"
    effects = {effect.measure: effect for effect in found}
    first, second = before.figures(), after.figures()
    for name, label in _NAMES.items():
        effect = effects.get(_EFFECTS.get(name, name))
        table.add_row(
            label,
            _figure(name, first[name]),
            _figure(name, second[name]),
            _relation(name, first[name], second[name]),
            NOTHING if effect is None else _interval(effect),
        )
    return table


def _body(run: Run, width: int) -> list[RenderableType]:
    figures = run.figures()
    table = Table(*_NAMES.values(), box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for column in table.columns:
        column.justify, column.no_wrap = "right", True
    table.add_row(*(_figure(name, figures[name]) for name in _NAMES))
    parts: list[RenderableType] = [table]
    if statuses := _statuses(run):
        parts.append(Text(f"not answered well: {statuses}", style="red"))
    latency = merged(slot.latency for slot in run.windows)
    parts += [Text(line, no_wrap=True) for line in lines(latency, _BINS, min(width, 100))]
    per_second = _by_second(run)
    if len(per_second) > 1:
        shown = curve(per_second, min(len(per_second), width - 30))
        parts.append(Text(f"answers/s  {shown}  {rate(per_second[-1])} at last", no_wrap=True))
    return parts


def _by_second(run: Run) -> list[float]:
    """Good answers of each whole second."""
    step = max(1, round(_CURVE_S / run.window_s))
    good = [slot.requests - slot.errors for slot in run.windows]
    return [sum(good[at : at + step]) / (step * run.window_s) for at in range(0, len(good) - step + 1, step)]


def _statuses(run: Run) -> str:
    told = {"0": "no answer"}
    return ", ".join(
        f"{count:,} x {told.get(status, status)}"
        for status, count in sorted(run.statuses.items())
        if status != "200"
    )


def _figure(name: str, value: float | None) -> str:
    if name == "requests":
        return f"{value or 0:,.0f}"
    if name in ("errors", "hits"):
        return percent(value)
    return rate(value) if name.endswith("_per_s") else seconds(value)


def _relation(name: str, before: float | None, after: float | None) -> str:
    if before is None or after is None:
        return NOTHING
    if name in ("errors", "hits"):
        return f"{100 * (after - before):+.2g} points"
    return f"{after / before:.2f}x" if before else NOTHING


def _interval(effect: Effect) -> str:
    if effect.relation == "difference":
        return f"{100 * effect.low:+.2g} to {100 * effect.high:+.2g} points"
    high = f"{effect.high:.2f}x" if effect.high < float("inf") else "no limit"
    return f"{effect.low:.2f}x to {high}"
