"""Numbers counted in logarithmic bins: percentiles within 1%, and those of many processes add up exactly."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from headrace.tensors import Array

_GROWTH = 1.02  # from bin to bin: what lies in one is at most 1% from its middle
_PER_LOG = 1 / math.log(_GROWTH)
_MIDDLE = 2 / (_GROWTH + 1)  # of a bin, relative to its upper edge
_LEAST = 1e-9  # all below it, zero included, is one bin


def bin_of(value: float) -> int:
    """The number of the bin that holds `value`."""
    return math.ceil(math.log(value if value > _LEAST else _LEAST) * _PER_LOG)


def bins_of(values: Array) -> dict[int, int]:
    """How many of `values` are in each bin that holds any: as `bin_of`, of many at once."""
    numbers = np.ceil(np.log(np.maximum(values, _LEAST)) * _PER_LOG).astype(np.int64)
    return dict(zip(*(found.tolist() for found in np.unique(numbers, return_counts=True)), strict=True))


def value_of(number: int) -> float:
    """What stands for all values of a bin: its middle."""
    return _MIDDLE * _GROWTH**number


class Sketch:
    """How many numbers there were in each bin. Bin i holds those above 1.02 ** (i - 1), up to 1.02 ** i.

    It has no bound of its own: from a microsecond to an hour there are 1,110 bins.
    """

    __slots__ = ("bins",)

    def __init__(self, bins: dict[int, int] | None = None) -> None:
        self.bins = {} if bins is None else bins

    def add(self, value: float) -> None:
        number = bin_of(value)
        self.bins[number] = self.bins.get(number, 0) + 1

    def merge(self, other: Sketch) -> None:
        for number, count in other.bins.items():
            self.bins[number] = self.bins.get(number, 0) + count

    @property
    def count(self) -> int:
        return sum(self.bins.values())

    def quantile(self, share: float) -> float:
        """The value that `share` (0 to 1) of all are not above, within 1%; NaN when there is none."""
        left = max(1, math.ceil(share * self.count))
        for number in sorted(self.bins):
            left -= self.bins[number]
            if left <= 0:
                return value_of(number)
        return math.nan

    def num_above(self, value: float) -> int:
        """How many are above `value`, those of its own bin left out."""
        limit = bin_of(value)
        return sum(count for number, count in self.bins.items() if number > limit)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sketch) and self.bins == other.bins

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"Sketch(count={self.count}, median={self.quantile(0.5):.3g})"


def merged(sketches: Iterable[Sketch]) -> Sketch:
    """All of them as one."""
    whole = Sketch()
    for sketch in sketches:
        whole.merge(sketch)
    return whole
