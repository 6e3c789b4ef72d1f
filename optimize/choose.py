"""Which of the versions that reached every goal is published (pure)."""

from __future__ import annotations

from collections.abc import Sequence

from optimize.measure import Measured

_ALIKE = 1.10  # times the fastest: less is noise on a shared machine, and noise must not choose


def choose(candidates: Sequence[Measured]) -> int:
    """The index of the fastest; among those about as fast the most accurate, then the smallest, then
    the first."""
    times = [1 / found.speedup for found in candidates]
    limit = min(times) * _ALIKE
    alike = [number for number, spent in enumerate(times) if spent <= limit]
    return min(
        alike, key=lambda number: (-candidates[number].accuracy, candidates[number].size_bytes, number)
    )
