"""Is a share larger than allowed? A test that may be looked at as often as one likes (pure).

The share of bad requests in a window, x, is the payoff of a bet against "on average it is at most m": who
stakes the fraction f of his wealth has 1 + f (x / m - 1) times as much afterwards. If the claim holds, wealth
does not grow on average, whatever the requests of a window have to do with each other, and the chance that it
ever reaches 1 / alpha is at most alpha (Ville, 1939). Betting on bounded means: Waudby-Smith and Ramdas,
"Estimating means of bounded random variables by betting", 2024; wealth as evidence: Shafer, "Testing by
betting", 2021.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from headrace.tensors import Array

# Each with an equal part of the wealth: small ones find small excesses, large ones find great ones soon.
_FRACTIONS = np.array([0.02, 0.06, 0.15, 0.35, 0.65, 0.95])
_MOST_TIMES = 10.0  # what is allowed, in one window
_MOST_LOG = 600.0  # e ** 709 is the largest float


@dataclass(frozen=True, slots=True)
class Trial:
    """Evidence against the claim, as an e-value: 1 says nothing, 100 comes by chance once in 100 times."""

    last: float = 1.0  # after the last window
    peak: float = 1.0  # the most after any: what was beyond chance once is not undone


def trial(bad: Array, seen: Array, allowed: Array) -> Trial:
    """Evidence that of `seen` requests (1 or more in each window) more are bad than the `allowed` share.

    A window counts for at most one request or ten times what is allowed: a replica that stands still for
    two seconds is one event, however many requests it meets. Less than was there is never too much, so the
    test stays valid.
    """
    if not len(bad):
        return Trial()
    limit = np.maximum(1 / seen, _MOST_TIMES * allowed)
    excess = np.minimum(bad / seen, limit) / allowed - 1
    logs = np.cumsum(np.log1p(_FRACTIONS[:, None] * excess), axis=1)
    highest = logs.max(axis=0)
    wealth = highest + np.log(np.exp(logs - highest).mean(axis=0))
    return Trial(_exp(wealth[-1]), max(1.0, _exp(wealth.max())))


def _exp(log: float) -> float:
    return math.exp(min(float(log), _MOST_LOG))
