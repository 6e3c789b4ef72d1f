"""A sketch of latencies as the lines of a histogram with logarithmic bins (pure)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from headrace.sketch import Sketch, value_of
from monitoring.glyphs import bar, seconds

_STEPS = (1.0, 1.25, 1.6, 2.0, 2.5, 3.2, 4.0, 5.0, 6.4, 8.0)  # tenths of a decade, rounded


@dataclass(frozen=True, slots=True)
class Bin:
    """How many lie from `low` on, below `high`."""

    low: float
    high: float
    count: int


def bins_of(sketch: Sketch, most: int) -> list[Bin]:
    """At most so many bins from the least to the largest value, as wide as each other on a logarithmic
    scale; ten or fewer to a decade. The last one has all that is above it."""
    if not sketch.bins:
        return []
    place = {number: _place(value_of(number)) for number in sketch.bins}
    first, last = min(place.values()), max(place.values())
    wide = max(1, -(-(last - first + 1) // most))  # tenths of a decade in a bin
    counts = [0] * -(-(last - first + 1) // wide)
    for number, count in sketch.bins.items():
        counts[(place[number] - first) // wide] += count
    return [
        Bin(_edge(first + at * wide), _edge(first + (at + 1) * wide), count)
        for at, count in enumerate(counts)
    ]


def lines(sketch: Sketch, most: int, width: int) -> list[str]:
    """A line for each bin: where it begins, a bar against the fullest, how many it holds."""
    found = bins_of(sketch, most)
    largest = max((entry.count for entry in found), default=0)
    return [
        f"{seconds(entry.low):>8} {bar(entry.count / largest, max(8, width - 20))} {entry.count:>9,}"
        for entry in found
    ]


def _place(value: float) -> int:
    """The tenth of a decade that a value lies in."""
    power = math.floor(math.log10(value))
    digits = value / 10.0**power
    return power * 10 + sum(digits >= step for step in _STEPS[1:])


def _edge(place: int) -> float:
    power, step = divmod(place, 10)
    return float(_STEPS[step] * 10.0**power)
