"""Stage 2 of static INT8: range determination. From what was seen of a tensor to the range that is kept.

- minmax: all that was seen.
- percentile: all but the rarest values at both ends.
- entropy: the range that, cut to 128 steps, tells least apart from what was seen (Kullback and
  Leibler's divergence, as Migacz proposed for INT8 inference at GTC 2017).

Weights need no calibration: their ranges are those of each output channel, or of the whole tensor.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from headrace.errors import ConfigRejected
from headrace.tensors import Array
from optimize.calibrate import BINS, Statistics

Method = Literal["minmax", "percentile", "entropy"]
METHODS: tuple[Method, ...] = get_args(Method)
_PERCENTILE = 99.99
_STEPS = 128  # of INT8, one sign
_TRIED = 64  # ranges


def determine(found: Statistics, method: Method, is_symmetric: bool) -> dict[str, tuple[float, float]]:
    """(low, high) of each tensor. Zero is always inside, since zero must be exact in INT8."""
    if method not in METHODS:
        raise ConfigRejected(f"calibration method {method!r} is unknown; allowed: {', '.join(METHODS)}")
    ranges = {}
    for name, low in found.low.items():
        high, counts = found.high[name], found.counts[name]
        if method == "percentile":
            low, high = _percentile(low, high, counts)
        elif method == "entropy":
            low, high = _entropy(low, high, counts)
        low, high = min(low, 0.0), max(high, 0.0)
        if is_symmetric:
            low, high = -max(-low, high), max(-low, high)
        ranges[name] = (low, high)
    return ranges


def _percentile(low: float, high: float, counts: Array) -> tuple[float, float]:
    total = counts.sum()
    if total == 0 or high <= low:
        return low, high
    seen = np.cumsum(counts) / total
    rare = (100 - _PERCENTILE) / 100
    width = (high - low) / BINS
    first = int(np.searchsorted(seen, rare, side="right"))
    last = int(np.searchsorted(seen, 1 - rare, side="left"))
    return low + first * width, low + (last + 1) * width


def _entropy(low: float, high: float, counts: Array) -> tuple[float, float]:
    """The bound on absolute values with the least divergence, as a range within what was seen."""
    largest = max(-low, high)
    if largest <= 0 or counts.sum() == 0:
        return low, high
    centres = np.abs(low + (np.arange(BINS) + 0.5) * (high - low) / BINS)
    sizes = np.bincount(np.minimum((centres / largest * BINS).astype(int), BINS - 1), counts, BINS)
    if low >= 0:
        sizes[0] = min(sizes[0], sizes[1:].max(initial=1.0))  # ReLU's zeros are exact in any range
    bounds = np.unique(np.linspace(_STEPS, BINS, _TRIED).astype(int))
    divergences = [_divergence(sizes, int(bound)) for bound in bounds]
    bound = largest * float(bounds[int(np.argmin(divergences))]) / BINS
    return max(low, -bound), min(high, bound)


def _divergence(sizes: Array, bound: int) -> float:
    """How much is told apart when sizes up to `bound` bins are cut to INT8's steps, the rest clipped."""
    kept = sizes[:bound].astype(np.float64)
    clipped = kept.copy()
    clipped[-1] += sizes[bound:].sum()
    groups = (np.arange(bound) * _STEPS // bound).astype(int)
    filled = kept > 0
    per_group = np.bincount(groups, kept, _STEPS) / np.maximum(np.bincount(groups, filled, _STEPS), 1)
    quantized = np.where(filled, per_group[groups], 0.0)
    p, q = clipped / clipped.sum(), quantized / max(quantized.sum(), 1e-12)
    both = (p > 0) & (q > 0)
    lost = p[(p > 0) & (q == 0)].sum()  # no finite divergence: counted as its share
    return float((p[both] * np.log(p[both] / q[both])).sum() + lost * 10)
