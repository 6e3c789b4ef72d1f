"""Evidence as arrays, one number for each window (pure)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np

from headrace.sketch import Sketch, bin_of, value_of
from headrace.tensors import Array
from rollout.evidence import Slot


class Latencies:
    """Latencies of many windows, to be counted again and again."""

    def __init__(self, sketches: Sequence[Sketch]) -> None:
        sizes = [len(sketch.bins) for sketch in sketches]
        total = sum(sizes)
        self._num_windows = len(sketches)
        self._window = np.repeat(np.arange(len(sketches)), sizes)
        self._bin = np.fromiter(chain.from_iterable(sketch.bins for sketch in sketches), np.int64, total)
        counts = chain.from_iterable(sketch.bins.values() for sketch in sketches)
        self._count = np.fromiter(counts, np.float64, total)
        self.counts = self._sums(np.ones(total, dtype=bool))
        self.count = float(self._count.sum())

    def above(self, value: float) -> Array:
        """How many of each window are above `value`, those of its own bin left out."""
        return self._sums(self._bin > bin_of(value))

    def quantile(self, share: float) -> float:
        """Of all windows together; there must be one latency at least."""
        least = int(self._bin.min())
        reached = np.cumsum(np.bincount(self._bin - least, self._count))
        rank = max(1.0, np.ceil(share * self.count - 1e-9))
        return value_of(least + int(np.searchsorted(reached, min(rank, self.count))))

    def _sums(self, chosen: Array) -> Array:
        return np.bincount(self._window[chosen], self._count[chosen], self._num_windows)


def numbers(slots: Sequence[Slot], of: Callable[[Slot], float]) -> Array:
    return np.fromiter(map(of, slots), np.float64, len(slots))
