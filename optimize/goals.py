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
    """Limits, most of them against the original; None: not asked for."""

    max_drop: float | None = None  # accuracy lost at most, in the units of the recipe's evaluate
    min_speedup: float | None = None  # times the original's rows per second, on one thread
    max_size: float | None = None  # as a fraction of the original's bytes
    min_accuracy: float | None = None  # in the units of the recipe's evaluate
    max_latency_ms: float | None = None  # of one row on one thread

    def __post_init__(self) -> None:
        for name in ("max_size", "max_latency_ms"):
            if getattr(self, name) == 0:
                raise ConfigRejected(f"goal '{name}=0' cannot be reached by anything; give a number above 0")

    def asked(self) -> dict[str, float]:
        """The goals that were set, by name."""
        return {
            field.name: value for field in fields(self) if (value := getattr(self, field.name)) is not None
        }


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


def check_goals(goals: Goals, original: Measured) -> None:
    """ConfigRejected when the goals contradict each other for this original, before hours of work."""
    if goals.max_drop is None or goals.min_accuracy is None:
        return
    if goals.min_accuracy > original.accuracy + _ROUNDING:
        raise ConfigRejected(
            f"the goals contradict each other: max_drop={goals.max_drop:g} allows less than the original's "
            f"accuracy of {original.accuracy:.4f}, min_accuracy={goals.min_accuracy:g} asks for more than "
            f"that; lower min_accuracy or leave one of them out"
        )


def reached(before: Measured, after: Measured) -> dict[str, float]:
    """What `after` comes to, by the name of the goal."""
    return {
        "max_drop": before.accuracy - after.accuracy,
        "min_speedup": (after.original_ms or before.latency_ms) / after.latency_ms,
        "max_size": after.size_bytes / before.size_bytes,
        "min_accuracy": after.accuracy,
        "max_latency_ms": after.latency_ms,
    }


def judge(goals: Goals, before: Measured, after: Measured) -> list[Miss]:
    """The goals that `after` misses. A figure that is not a number misses its goal."""
    found = reached(before, after)
    return [
        Miss(name, wanted, found[name])
        for name, wanted in goals.asked().items()
        if not (
            found[name] >= wanted - _ROUNDING if name.startswith("min") else found[name] <= wanted + _ROUNDING
        )
    ]
