"""Figures with their bounds: printed as a table, written as JSON."""

from __future__ import annotations

import argparse
import operator
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from optimize.machine import this_machine

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "==": operator.eq,
}


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value; without a bound it is told for comparison only."""

    name: str
    value: float
    unit: str
    bound: str = ""  # ">= 2", taken from the issue

    @property
    def holds(self) -> bool | None:
        if not self.bound:
            return None
        compare, limit = self.bound.split()
        return _COMPARE[compare](self.value, float(limit))


def arguments(description: str | None, parts: Sequence[str] = ()) -> argparse.Namespace:
    """The options that every benchmark takes; one of several parts can be told to run only some."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="a smoke run: its figures mean nothing")
    if parts:
        parser.add_argument("--only", action="append", choices=parts, help="this part; may be repeated")
        parser.add_argument("--work", type=Path, help="keep the work here, and go on with what is there")
    return parser.parse_args()


def middle(values: Sequence[float]) -> float:
    return float(median(values))


def finish(
    figures: Sequence[Figure], json_file: Path | None, details: Mapping[str, Any] | None = None
) -> int:
    """Print and write the figures; 1 when a bound does not hold. Details are written only."""
    table = Table("figure", "value", "unit", "bound", "holds")
    for figure in figures:
        holds = {None: "", True: "yes", False: "NO"}[figure.holds]
        table.add_row(figure.name, f"{figure.value:.4g}", figure.unit, figure.bound, holds)
    Console(width=110).print(table)
    if json_file is not None:
        document = {
            "machine": asdict(this_machine()),
            "command": shlex.join(["python", "-m", f"benchmarks.{Path(sys.argv[0]).stem}", *sys.argv[1:]]),
            "figures": [{**asdict(figure), "holds": figure.holds} for figure in figures],
            **(details or {}),
        }
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY))
    return 0 if all(figure.holds is not False for figure in figures) else 1
