"""What a smaller and faster version must reach to be published."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from headrace.errors import ConfigRejected

if TYPE_CHECKING:
    from optimize.measure import Measured

_ROUNDING = 1e-9  # 0.978 - 0.968 is a hair more than 0.01


@dataclass(frozen=True, slots=True)
class Goals:
    """Limits against the original; None: not asked for."""

    max_drop: float | None = None  # accuracy lost at most, in the units of the recipe's evaluate
    min_speedup: float | None = None  # times the original's rows per second, on one thread
    max_size: float | None = None  # as a fraction of the original's bytes


@dataclass(frozen=True, slots=True)
class Miss:
    """One goal that was not reached."""

    goal: str
    wanted: float
    reached: float

    def __str__(self) -> str:
        return f"{self.goal}: wanted {self.wanted:g}, reached {self.reached:.4g}"


def parse_goal(text: str) -> tuple[str, float]:
    """("max_drop", 0.01) from "max_drop=0.01"; ConfigRejected says which goals there are."""
    known = [field.name for field in fields(Goals)]
    name, separator, value = (part.strip() for part in text.partition("="))
    if not separator or name not in known:
        raise ConfigRejected(
            f"goal {text!r} is unknown; write one of: {', '.join(f'{k}=NUMBER' for k in known)}"
        )
    try:
        number = float(value)
    except ValueError as err:
        raise ConfigRejected(f"goal '{name}' needs a number; got {value!r}") from err
    if not math.isfinite(number) or number < 0:
        raise ConfigRejected(f"goal '{name}' needs a number from 0 upwards; got {value!r}")
    return name, number


def parse_goals(texts: Iterable[str]) -> Goals:
    """Goals from texts such as "max_drop=0.01"; each at most once."""
    found: dict[str, float] = {}
    for name, number in map(parse_goal, texts):
        if name in found:
            raise ConfigRejected(f"goal '{name}' is given twice")
        found[name] = number
    return Goals(**found)


def judge(goals: Goals, before: Measured, after: Measured) -> list[Miss]:
    """The goals that `after` misses. A figure that is not a number misses its goal."""
    drop = before.accuracy - after.accuracy
    speedup = after.rows_per_s / before.rows_per_s
    size = after.size_bytes / before.size_bytes
    misses = []
    if goals.max_drop is not None and not drop <= goals.max_drop + _ROUNDING:
        misses.append(Miss("max_drop", goals.max_drop, drop))
    if goals.min_speedup is not None and not speedup >= goals.min_speedup - _ROUNDING:
        misses.append(Miss("min_speedup", goals.min_speedup, speedup))
    if goals.max_size is not None and not size <= goals.max_size + _ROUNDING:
        misses.append(Miss("max_size", goals.max_size, size))
    return misses
