"""Whether a candidate's latencies keep within a guard (pure)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headrace.tensors import Array
from rollout.blocks import filled
from rollout.evidence import Evidence, Slot
from rollout.guards import Guard
from rollout.judged import Judged, suffering
from rollout.sequential import trial
from rollout.tallies import Latencies

_FEWEST = 30  # latencies that a quantile is known from, or as many as one of them lies above it
_DEVIATIONS = 3.0  # of its rank that the reference may be too low by
_SMOOTHED = 10  # windows: a queue remembers so much of the load
_LOAD_TOLERANCE = 0.15


@dataclass(frozen=True, slots=True)
class _Reference:
    plain_s: float = math.nan
    upper_s: float = math.nan
    load: float = 0.0  # requests computed each second when this was measured


def judge_latency(guard: Guard, evidence: Evidence) -> Judged:
    """The candidate's quantile against the bound. Evidence is its share of requests above the allowed latency
    in each second, against the share that a quantile leaves above it.

    The reference is the higher of the stable version's quantile in this step and before the rollout: with a
    split load whoever has more of it has the longer queue, and at 100% there is no other left. For the same
    reason a second in which the candidate has more load than the stable version had when it was measured is
    no evidence, though it counts for the quantile as it is.
    """
    assert guard.quantile is not None, "a guard of a latency"
    quantile = guard.quantile
    rows = evidence.windows
    candidate = _latencies([window.candidate for window in rows], evidence.is_mixed)
    stable = _latencies([window.stable for window in rows], evidence.is_mixed)
    seconds = np.array([window.seconds for window in rows], dtype=float)
    reference = _reference(quantile, stable, float(seconds.sum()), evidence)
    fewest = _fewest(quantile)
    if guard.relation != "absolute" and math.isnan(reference.plain_s):
        return Judged(missing=f"fewer than {fewest} latencies of the stable version are known")
    allowed_s, wanted_s = _limits(guard, reference)
    if not candidate.count:
        return Judged(missing="no latency of the candidate is known")
    found_s = candidate.quantile(quantile)
    bad, seen = candidate.above(wanted_s), candidate.counts
    shared = stable.above(wanted_s if guard.relation == "absolute" else reference.upper_s)
    is_comparable = seen > 0
    if guard.relation != "absolute":
        is_comparable &= _bears(seen, seconds, reference.load)
    seen, bad, shared, stable_seen = filled(
        seen[is_comparable], bad[is_comparable], shared[is_comparable], stable.counts[is_comparable]
    )
    share = np.maximum(1 - quantile, suffering(shared, stable_seen, 1 - quantile))
    return Judged(
        candidate=found_s,
        reference=None if guard.relation == "absolute" else reference.plain_s,
        seen=candidate.count,
        is_within=found_s <= allowed_s,
        missing="" if candidate.count >= fewest else f"{candidate.count:.0f} of {fewest} latencies are known",
        trial=trial(bad, seen, share),
    )


def _latencies(slots: Sequence[Slot], is_mixed: bool) -> Latencies:
    return Latencies([slot.inner if is_mixed else slot.latency for slot in slots])


def _fewest(quantile: float) -> int:
    return max(_FEWEST, math.ceil(1 / (1 - quantile) - 1e-6))


def _limits(guard: Guard, reference: _Reference) -> tuple[float, float]:
    """Seconds: as the reference is, and as it may be."""
    match guard.relation:
        case "ratio":
            return guard.bound * reference.plain_s, guard.bound * reference.upper_s
        case "difference":
            return guard.bound + reference.plain_s, guard.bound + reference.upper_s
        case "absolute":
            return guard.bound, guard.bound


def _reference(quantile: float, stable: Latencies, lasted_s: float, evidence: Evidence) -> _Reference:
    before = _latencies(evidence.before, evidence.is_mixed)
    known = [
        (latencies, seconds)
        for latencies, seconds in ((stable, lasted_s), (before, float(len(evidence.before))))
        if latencies.count >= _fewest(quantile)
    ]
    if not known:
        return _Reference()
    return _Reference(
        plain_s=max(latencies.quantile(quantile) for latencies, _ in known),
        upper_s=max(latencies.quantile(_upper(quantile, latencies.count)) for latencies, _ in known),
        load=max(latencies.count / seconds for latencies, seconds in known),
    )


def _upper(quantile: float, count: float) -> float:
    return min(1.0, quantile + _DEVIATIONS * math.sqrt(quantile * (1 - quantile) / count))


def _bears(seen: Array, seconds: Array, load: float) -> Array:
    """Windows before which the candidate had no more load than the stable version has borne."""
    ends = np.arange(1, len(seen) + 1)
    starts = np.maximum(ends - _SMOOTHED, 0)
    counted, lasted = np.append(0.0, np.cumsum(seen)), np.append(0.0, np.cumsum(seconds))
    span = lasted[ends] - lasted[starts]
    noise = 3 * np.sqrt(load / span)  # of a count of independent arrivals
    most = load + np.maximum(_LOAD_TOLERANCE * load, noise)
    return np.asarray((counted[ends] - counted[starts]) / span <= most)
