"""Intervals that hold at every look, for means, shares and their ratios over windows (pure).

Asymptotic confidence sequences: Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, "Time-uniform central limit
theory and asymptotic confidence sequences", Annals of Statistics 2024. What is averaged over time here is the
influence of each window on the estimate (the delta method), so that requests of one window may have as much
to do with each other as they like, and those of neighbouring windows something. What has not happened yet is
not in an interval: nobody knows of an outage that comes once a day from an hour without one.

Arrays are (..., windows); what comes back has one value for each number of windows, as if one had looked
after every one of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from headrace.tensors import Array

FEWEST_WINDOWS = 60  # the central limit needs some
_TIGHTEST = 300.0  # windows after which the intervals are narrowest for what they promise
_BLOCKS = (1, 10, 30)  # windows: what disturbs several in a row varies more in the longer ones


@dataclass(frozen=True, slots=True)
class Path:
    """An estimate after each window, and its variance at that time."""

    value: Array
    variance: Array


def boundary(num_windows: Array, alpha: float) -> Array:
    """Standard deviations of an estimate that all looks together leave with probability `alpha` at most."""
    log = -2 * math.log(alpha)
    rho2 = (log + math.log(log) + 1) / _TIGHTEST
    scaled = num_windows * rho2 + 1
    return np.asarray(np.sqrt(scaled / (num_windows * rho2) * np.log(scaled / alpha**2)))


def ratio_path(over: Array, under: Array, spare: float = 0.0) -> Path:
    """Sum of `over` by sum of `under` (a share, a mean, a rate). `spare` is for shares: so many requests of
    either kind are added for the variance, which else would be 0 as long as one kind was not seen (as Agresti
    and Coull, 1998, do)."""
    total_over, total_under = np.cumsum(over, axis=-1), np.cumsum(under, axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = total_over / total_under
        squares = np.max([_squares(over, under, value, block) for block in _BLOCKS], axis=0)
        variance = squares / total_under**2
        if spare:
            share = np.clip((total_over + spare) / (total_under + 2 * spare), 0, 1)
            variance = np.maximum(variance, share * (1 - share) / total_under)
    return Path(value, variance)


def _squares(over: Array, under: Array, value: Array, block: int) -> Array:
    """Sum over blocks of the squares of over - value * under, after each window; a block that is not whole
    counts as it is."""
    num_windows = over.shape[-1]
    whole_over = np.cumsum(over, axis=-1)
    whole_under = np.cumsum(under, axis=-1)
    numbers = np.arange(num_windows)
    first = numbers - numbers % block  # of the block that a window belongs to
    pad = [(0, 0)] * (over.ndim - 1) + [(1, 0)]
    ends_over, ends_under = np.pad(whole_over, pad), np.pad(whole_under, pad)
    part_over = whole_over - ends_over[..., first]
    part_under = whole_under - ends_under[..., first]
    is_last = numbers % block == block - 1
    done = [np.cumsum(np.where(is_last, row, 0.0), axis=-1) for row in _products(part_over, part_under)]
    open_ = [np.where(is_last, 0.0, row) for row in _products(part_over, part_under)]
    over2, both, under2 = (full + part for full, part in zip(done, open_, strict=True))
    return np.asarray(np.maximum(over2 - 2 * value * both + value**2 * under2, 0.0))


def _products(over: Array, under: Array) -> tuple[Array, Array, Array]:
    return over * over, over * under, under * under
