"""One axis of a plot: from values to pixels, and ticks at round values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_CLOSE = 0.6  # values above this fraction of the largest would be pressed together by an axis from 0


@dataclass(frozen=True, slots=True)
class Axis:
    """`low` lies at pixel `start`, `high` at pixel `end`."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def at(self, value: float) -> float:
        """The pixel of a value."""
        low, high, value = (self._scaled(part) for part in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self, most: int) -> list[tuple[float, str]]:
        """Round values within the axis, at most so many, with their texts."""
        values = self._powers() if self.is_log else []
        if len(values) < 2:
            step = _round_step((self.high - self.low) / max(most, 2))
            first = math.ceil(self.low / step - 1e-9)
            last = math.floor(self.high / step + 1e-9)
            values = [number * step for number in range(first, last + 1)]
            decimals = max(0, -math.floor(math.log10(step) + 1e-9))
            return [(value, f"{value:.{decimals}f}") for value in values]
        return [(value, f"{value:g}") for value in values[:: math.ceil(len(values) / max(most, 2))]]

    def _powers(self) -> list[float]:
        first, last = (math.floor(math.log10(value)) for value in (self.low, self.high))
        powers = (factor * 10.0**power for power in range(first, last + 1) for factor in (1, 2, 5))
        return [value for value in powers if self.low <= value <= self.high]

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.is_log else value


def axis_for(values: Sequence[float], start: float, end: float, inset: float, is_log: bool = False) -> Axis:
    """An axis from pixel `start` to `end` that keeps every value `inset` pixels away from both ends."""
    low, high = (math.log10(pick(values)) if is_log else pick(values) for pick in (min, max))
    if high - low < 1e-12:
        room = 0.1 if is_log else abs(low) / 100 or 0.01
        low, high = low - room, high + room
    per_pixel = (high - low) / (abs(end - start) - 2 * inset)
    low, high = low - inset * per_pixel, high + inset * per_pixel
    if is_log:
        low, high = 10.0**low, 10.0**high
    return Axis(low, high, start, end, is_log)


def axis_from_zero(values: Sequence[float], start: float, end: float, inset: float) -> Axis:
    """The same with 0 at `start`, so that half as far is half as much, where the values allow it."""
    low, high = min(values), max(values)
    high *= (end - start) / (end - start - inset)
    axis = Axis(0.0, high, start, end)
    is_close = _CLOSE * high < low < max(values)
    if is_close or axis.at(low) - start < inset:
        return axis_for(values, start, end, inset)
    return axis


def _round_step(least: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is not below `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= least * (1 - 1e-9))
