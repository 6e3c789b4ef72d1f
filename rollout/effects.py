"""Variants side by side: what differs, by how much, and how sure that is (pure).

All intervals of one comparison hold together, at every look, with 95%: the 5% are split over all measures and
all variants but the first (Bonferroni). So whoever looks at many numbers, often, and stops when he likes what
he sees is still right in 95 of 100 tests.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from headrace.tensors import Array
from rollout.evidence import Slot
from rollout.intervals import FEWEST_WINDOWS, boundary, ratio_path
from rollout.tallies import Latencies, numbers

MISTAKES = 0.05  # of all comparisons: those in which any interval is ever wrong
FEWEST_REQUESTS = 100  # of a variant

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
Relation = Literal["ratio", "difference"]


@dataclass(frozen=True, slots=True)
class Effect:
    """Of a variant against the baseline: the ratio of its value to the baseline's, or the difference."""

    measure: str
    variant: str
    relation: Relation
    value: float
    low: float  # the effect lies between these, at all looks
    high: float

    @property
    def is_clear(self) -> bool:
        """Chance does not explain it."""
        null = 1.0 if self.relation == "ratio" else 0.0
        return self.low > null or self.high < null


@dataclass(frozen=True, slots=True)
class Variant:
    """`values` by measure: p50, p95, p99 and engine in seconds, throughput in requests per second, cost in
    replica-seconds per 1,000 requests, and errors, accuracy and hits as shares; without what is not known."""

    name: str
    requests: int
    seconds: int  # with a request
    values: dict[str, float]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The first variant is the baseline. A measure has an effect once both variants know enough of it."""

    variants: tuple[Variant, ...]
    effects: tuple[Effect, ...]

    def of(self, variant: str) -> list[Effect]:
        return [effect for effect in self.effects if effect.variant == variant]


@dataclass(frozen=True, slots=True)
class _Measure:
    over: Callable[[Slot], float]
    under: Callable[[Slot], float] | None  # None: by the second
    relation: Relation
    scale: float = 1.0

    @property
    def spare(self) -> float:
        return 2.0 if self.relation == "difference" else 0.0


def _requests(slot: Slot) -> float:
    return slot.requests


def _computed(slot: Slot) -> float:
    return slot.latency.count


_MEASURES = {
    "errors": _Measure(lambda slot: slot.errors, _requests, "difference"),
    "accuracy": _Measure(lambda slot: slot.right, lambda slot: slot.judged, "difference"),
    "hits": _Measure(lambda slot: slot.hits, _requests, "difference"),
    "engine": _Measure(lambda slot: slot.engine_s, _computed, "ratio"),
    "cost": _Measure(lambda slot: slot.replica_s, _requests, "ratio", scale=1000.0),
    "throughput": _Measure(_requests, None, "ratio"),
}
MEASURES = (*QUANTILES, *_MEASURES)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value, and what it lies between at all looks."""

    value: float
    low: float
    high: float


def compare(
    names: Sequence[str], seconds: Sequence[Sequence[Slot]], lasts_s: Sequence[int] | None = None
) -> Comparison:
    """Values, effects and intervals. `seconds` has for each name its slots, those of the same second at the
    same place; a second without a request is an empty Slot. `lasts_s`: of slots that are longer than that."""
    alpha = MISTAKES / (len(MEASURES) * max(1, len(names) - 1))
    lengths = np.array(lasts_s or [1] * max(map(len, seconds), default=0), np.float64)
    estimates = [_estimates(slots, lengths, alpha) for slots in seconds]
    variants = tuple(
        Variant(
            name,
            sum(slot.requests for slot in slots),
            int(sum(length for slot, length in zip(slots, lengths, strict=True) if slot.requests)),
            {measure: estimate.value for measure, estimate in found.items()},
        )
        for name, slots, found in zip(names, seconds, estimates, strict=True)
    )
    effects = [
        _effect(measure, variant.name, estimates[0][measure], found[measure])
        for variant, found in zip(variants[1:], estimates[1:], strict=True)
        for measure in MEASURES
        if _is_enough(variants[0], variant) and measure in estimates[0] and measure in found
    ]
    return Comparison(variants, tuple(effect for effect in effects if effect is not None))


def _is_enough(baseline: Variant, variant: Variant) -> bool:
    return min(baseline.seconds, variant.seconds) >= FEWEST_WINDOWS and (
        min(baseline.requests, variant.requests) >= FEWEST_REQUESTS
    )


def _estimates(slots: Sequence[Slot], lengths: Array, alpha: float) -> dict[str, Estimate]:
    found = {}
    latencies = Latencies([slot.latency for slot in slots])
    if latencies.count:
        for name, share in QUANTILES.items():
            found[name] = quantile_interval(latencies, share, alpha)
    for name, measure in _MEASURES.items():
        over = numbers(slots, measure.over)
        under = numbers(slots, measure.under) if measure.under else lengths
        if under.sum() and (over.sum() or measure.relation == "difference"):
            found[name] = mean_interval(over * measure.scale, under, alpha, measure.spare)
    return found


def mean_interval(over: Array, under: Array, alpha: float, spare: float = 0.0) -> Estimate:
    """Sum of `over` by sum of `under`, over windows."""
    path = ratio_path(over, under, spare)
    value, half = float(path.value[-1]), _half(float(path.variance[-1]), int(np.count_nonzero(under)), alpha)
    return Estimate(value, value - half, value + half)


def quantile_interval(latencies: Latencies, share: float, alpha: float) -> Estimate:
    """A quantile between those of the ranks that its own rank may have been (Woodruff, 1952)."""
    value = latencies.quantile(share)
    counts = latencies.counts
    above = ratio_path(latencies.above(value), counts, spare=1.0)
    half = _half(float(above.variance[-1]), int(np.count_nonzero(counts)), alpha)
    low = latencies.quantile(share - half) if share > half else 0.0
    high = latencies.quantile(share + half) if share + half < 1 else math.inf
    return Estimate(value, low, high)


def _half(variance: float, num_windows: int, alpha: float) -> float:
    return math.sqrt(variance) * float(boundary(np.array(float(max(num_windows, 1))), alpha))


def _effect(measure: str, variant: str, baseline: Estimate, found: Estimate) -> Effect | None:
    """Half-widths add as standard deviations do (Zou and Donner, 2008), for ratios on a logarithmic scale."""
    relation: Relation = "ratio" if measure in QUANTILES else _MEASURES[measure].relation
    if relation == "difference":
        low, high = _between(baseline, found)
        return Effect(measure, variant, relation, found.value - baseline.value, low, high)
    if min(baseline.value, found.value) <= 0:
        return None
    low, high = _between(_log(baseline), _log(found))
    return Effect(measure, variant, relation, found.value / baseline.value, _exp(low), _exp(high))


def _between(baseline: Estimate, found: Estimate) -> tuple[float, float]:
    value = found.value - baseline.value
    down = math.hypot(found.value - found.low, baseline.high - baseline.value)
    up = math.hypot(found.high - found.value, baseline.value - baseline.low)
    return value - down, value + up


def _log(estimate: Estimate) -> Estimate:
    low = math.log(estimate.low) if estimate.low > 0 else -math.inf
    return Estimate(math.log(estimate.value), low, math.log(estimate.high))


def _exp(log: float) -> float:
    return math.exp(log) if log < 700 else math.inf
