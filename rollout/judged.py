"""What the evidence says of one guard (pure)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from headrace.tensors import Array
from rollout.sequential import Trial


@dataclass(frozen=True, slots=True)
class Judged:
    """`candidate` and `reference` are latencies in seconds or shares; None while they are not known."""

    candidate: float | None = None
    reference: float | None = None  # of the stable version; None, too, where the guard needs none
    seen: float = 0.0  # requests, copies or true answers of the candidate
    is_within: bool = False  # the guard, by the numbers as they are
    missing: str = ""  # why the numbers cannot be judged yet; "" when they can
    trial: Trial = field(default_factory=Trial)


def suffering(bad: Array, seen: Array, usual: Array | float) -> Array:
    """The stable version's share of bad requests in each window, or the `usual` one where it is not clearly
    more: what befalls both versions in a second says nothing about one of them.

    Clearly: by three standard deviations and one request. Every small excess as it is would, on average,
    allow the candidate more than the stable version has.
    """
    expected = seen * usual
    is_clear = bad > expected + 3 * np.sqrt(expected) + 1
    return np.where(is_clear, bad / np.maximum(seen, 1), usual)


def wilson_upper(share: float, seen: float, deviations: float = 2.0) -> float:
    """The largest share that goes with what was seen (Wilson, 1927)."""
    z2 = deviations**2
    half = deviations * math.sqrt(share * (1 - share) * seen + z2 / 4)
    return min(1.0, (share * seen + z2 / 2 + half) / (seen + z2))
