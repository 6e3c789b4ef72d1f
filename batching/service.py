"""How long a batch runs: a line fitted to what was measured; and how far above it most stay (pure)."""

from __future__ import annotations

import math
from collections.abc import Iterable

_MEMORY = 0.97  # of the sums at each batch: some thirty batches count
_QUANTILE = 0.9
_DISTINCT = 0.01  # of the mean square: where sizes vary by less, they tell nothing of the base
_STEP = 0.1
_FIRST_SPREAD = 1.3
_LARGEST_SPREAD = 2.0  # one stall must neither close the door for long nor make batches small


class Spread:
    """How far above an expectation nine of ten cases stay: a factor that follows what is observed."""

    def __init__(self) -> None:
        self.factor = _FIRST_SPREAD

    def observe(self, seconds: float, expected_s: float) -> None:
        is_longer = seconds > self.factor * expected_s
        self.factor *= math.exp(_STEP * (_QUANTILE if is_longer else _QUANTILE - 1))
        self.factor = min(max(self.factor, 1.0), _LARGEST_SPREAD)


class ServiceTime:
    """Seconds of a batch by its elements, padding included: `base + elements * per_element`.

    Least squares over the latest batches, older ones fading; neither term is below zero. `points` are
    (elements, seconds) that are known before any batch has run.
    """

    def __init__(self, points: Iterable[tuple[float, float]] = ()) -> None:
        self._count = self._x = self._xx = self._y = self._xy = 0.0
        self._spread = Spread()
        self.base_s = 0.0
        self.per_element_s = 0.0
        for elements, seconds in points:
            self._add(elements, seconds)
        self._fit()

    @property
    def is_known(self) -> bool:
        return self._count > 0

    @property
    def can_weigh(self) -> bool:
        """Whether it is known what a call of the engine costs apart from its elements."""
        return self.base_s > 0

    def expected_s(self, elements: float) -> float:
        """What a batch of so many elements takes on average; 0 as long as nothing is known."""
        return self.base_s + elements * self.per_element_s

    def likely_s(self, elements: float) -> float:
        """What nine of ten such batches stay below."""
        return self._spread.factor * self.expected_s(elements)

    def observe(self, elements: float, seconds: float) -> None:
        """Learn from a batch that ran."""
        expected = self.expected_s(elements)
        if expected > 0:
            self._spread.observe(seconds, expected)
        self._add(elements, seconds)
        self._fit()

    def _add(self, elements: float, seconds: float) -> None:
        self._count = self._count * _MEMORY + 1
        self._x = self._x * _MEMORY + elements
        self._xx = self._xx * _MEMORY + elements * elements
        self._y = self._y * _MEMORY + seconds
        self._xy = self._xy * _MEMORY + elements * seconds

    def _fit(self) -> None:
        if not self._count:
            return
        variance = self._count * self._xx - self._x * self._x
        if variance > _DISTINCT * self._count * self._xx:
            self.per_element_s = max(0.0, (self._count * self._xy - self._x * self._y) / variance)
            self.base_s = (self._y - self.per_element_s * self._x) / self._count
            if self.base_s >= 0:
                return
        elif self.base_s > 0:  # of late one size only: the two terms stay to each other as they were
            change = self._y / (self._count * self.base_s + self._x * self.per_element_s)
            self.base_s *= change
            self.per_element_s *= change
            return
        # One size only, or larger than in proportion to its size: no base.
        self.base_s = 0.0
        self.per_element_s = self._xy / self._xx if self._xx else 0.0
        if not self._xx:
            self.base_s = self._y / self._count
