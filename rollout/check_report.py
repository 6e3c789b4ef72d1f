"""Baselines and comparisons for the terminal, and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from rollout.baseline import Baseline
from rollout.check import Check, Row

if TYPE_CHECKING:
    from rich.table import Table

_STYLES = {"worse": "bold red", "unsure": "yellow", "unknown": "dim", "ok": ""}


def check_table(found: Check) -> Table:
    """A row for each figure: old, new, what the pairs say, and what was recorded of the old one."""
    from rich import box
    from rich.table import Table

    has_recorded = any(row.recorded is not None for row in found.rows)
    table = Table(title=f"{found.model}: version {found.new} against {found.old}", box=box.SIMPLE_HEAD)
    table.add_column("figure", no_wrap=True)
    for name in (
        "old",
        "new",
        "unit",
        "new/old",
        "pairs",
        "outcome",
        *(["recorded"] if has_recorded else []),
    ):
        table.add_column(name, justify="left" if name in ("unit", "outcome") else "right", no_wrap=True)
    for row in found.rows:
        cells = [
            _number(row.old),
            _number(row.new),
            row.unit,
            _change(row),
            str(row.num_pairs or ""),
            row.state,
        ]
        recorded = [_number(row.recorded)] if has_recorded else []
        table.add_row(row.name, *cells, *recorded, style=_STYLES[row.state])
    return table


def in_words(found: Check) -> str:
    """Whether the new version passes, and why not, or what is not clear."""
    names = f"version {found.new} of {found.model!r}"
    if found.regressions:
        told = "; ".join(f"{row.name} {_told(row)}" for row in found.regressions)
        return f"{names} is worse than {found.old}: {told}"
    said = f"{names} is no worse than {found.old}, within {found.tolerance:.0%} of each figure"
    if found.unsure:
        told = ", ".join(row.name for row in found.unsure)
        said += f". This machine was too busy to be sure of: {told}; more --seconds may tell"
    return said


def check_json(found: Check) -> bytes:
    """Every figure with its verdict; what is not known is null."""
    document = {**asdict(found), "is_worse": bool(found.regressions), "words": in_words(found)}
    return json.dumps(document, indent=2).encode() + b"\n"


def baseline_table(baseline: Baseline) -> Table:
    """Its figures, and where they were measured."""
    from rich import box
    from rich.table import Table

    where = baseline.fingerprint
    title = f"{baseline.model}/{baseline.version} on {where.cores} cores of {where.cpu}, {baseline.recorded}"
    table = Table(title=title, box=box.SIMPLE_HEAD)
    table.add_column("figure", no_wrap=True)
    table.add_column("value", justify="right")
    for entry in baseline.latencies:
        shape = ", ".join([f"batch {entry.batch}", *(f"{dim} {size}" for dim, size in entry.sizes.items())])
        told = f"{entry.median_ms:.3g} ms, P95 {entry.p95_ms:.3g} ms"
        table.add_row(f"latency, {shape}", told)
    full, known = baseline.throughput, baseline.accuracy
    table.add_row("throughput", f"{full.rows_per_s:.4g} rows/s, {baseline.threads} threads")
    cost = f"{full.engine_s_per_1000:.3g} s of an engine, {full.cpu_s_per_1000:.3g} s of CPUs"
    table.add_row("1,000 rows cost", cost)
    table.add_row("size", f"{baseline.size_bytes / 1e6:.3g} MB")
    table.add_row("accuracy", f"{known.value:.4f} ({known.source})" if known else "unknown")
    libraries = ", ".join(f"{name} {version}" for name, version in where.libraries.items())
    table.add_row("machine", f"{where.system}, Python {where.python}, {libraries}")
    for gpu in where.gpus:
        table.add_row("GPU", f"{gpu.name}, driver {gpu.driver}")
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _change(row: Row) -> str:
    if row.change is None:
        return ""
    return f"{row.change:+.4f}" if row.kind == "accuracy" else f"{row.change:.2f}x"


def _told(row: Row) -> str:
    if row.kind == "accuracy":
        return f"{row.new:.4f} after {row.old:.4f}"
    return f"{row.change:.2f} times as much"
