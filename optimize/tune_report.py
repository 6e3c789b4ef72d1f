"""What `headrace tune` found: for the terminal, and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from statistics import median
from typing import TYPE_CHECKING, Any

from optimize.tune import NOISE, Outcome, Row

if TYPE_CHECKING:
    from rich.table import Table

_SHOWN = 12  # rows


def as_table(outcome: Outcome, title: str) -> Table:
    """The fastest set-ups and the untuned one, with the chosen row marked."""
    from rich import box
    from rich.table import Table

    machine = outcome.tuned.machine
    table = Table(title=f"{title} on {machine.cores} cores of {machine.cpu}", box=box.SIMPLE_HEAD)
    has_others = any(row.candidate.engine for row in outcome.rows)
    for name in ("", *(["engine"] if has_others else []), "engines x streams x threads", "grouping"):
        table.add_column(name, no_wrap=True)
    for name in ("batch", "rows/s", "mean batch", "fill", "turns"):
        table.add_column(name, justify="right")
    most = max(len(row.turns) for row in outcome.rows)
    shown = outcome.rows[:_SHOWN]
    shown += [row for row in (outcome.chosen, outcome.default) if row not in shown]
    for row in shown:
        style = "bold" if row is outcome.chosen else "" if len(row.turns) == most else "dim"
        engine = [row.candidate.engine or "its own"] if has_others else []
        table.add_row(_mark(outcome, row), *engine, *_cells(row), style=style)
    return table


def _mark(outcome: Outcome, row: Row) -> str:
    marks = {"chosen": row is outcome.chosen, "untuned": row is outcome.default}
    return ", ".join(name for name, is_so in marks.items() if is_so)


def _cells(row: Row) -> list[str]:
    candidate = row.candidate
    is_limited = candidate.grouping == "nearest"
    return [
        f"{candidate.instances} x {candidate.streams} x {candidate.threads}",
        f"{candidate.grouping}, {candidate.max_padding:.0%}" if is_limited else candidate.grouping,
        str(candidate.max_batch),
        f"{row.rate:.0f}",
        f"{median(row.mean_batches):.1f}",
        f"{median(row.fills):.0%}",
        str(len(row.turns)),
    ]


def in_words(outcome: Outcome) -> str:
    """What was chosen, and what it gains."""
    gain = outcome.chosen.rate / outcome.default.rate
    if outcome.chosen is outcome.default:
        told = "the set-up that an untuned model has is as fast as any"
    else:
        told = f"chosen: {outcome.chosen.rate:.0f} rows/s, {gain:.2f} times those of the untuned set-up"
    return f"{told} (within {1 - NOISE:.0%} the simpler one is taken)"


def as_json(outcome: Outcome) -> bytes:
    """Every set-up with its figures, and what was written into the manifest."""
    document = {
        "tuned": outcome.tuned.model_dump(mode="json"),
        "rows": [_document(outcome, row) for row in outcome.rows],
    }
    return json.dumps(document, indent=2).encode() + b"\n"


def _document(outcome: Outcome, row: Row) -> dict[str, Any]:
    return {
        **asdict(row.candidate),
        "is_chosen": row is outcome.chosen,
        "is_untuned": row is outcome.default,
        "rows_per_s": row.rate,
        "turns": row.turns,
        "mean_batch": median(row.mean_batches),
        "fill": median(row.fills),
    }
