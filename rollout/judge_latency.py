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
from rollout.judged import Judged, fewest_in_window, suffering
from rollout.sequential import Trial, trial
from rollout.tallies import Latencies

_FEWEST = 30  # latencies that a quantile is known from, or as many as one of them lies above it
_DEVIATIONS = 3.0  # of its rank that the reference may be too low by
_SMOOTHED = 10  # windows: a queue remembers so much of the load
_LOAD_TOLERANCE = 0.15
_PAUSED = 10.0  # times the share that is allowed to be slow: a second in which the version stood still

_TIMES = 20.0  # what is allowed, in a window: a version that pauses in one second of 20 is found, too
_REST = 4  # windows: a pause of two seconds, and as much again until its queue is gone
_SHOWN = 5  # requests in a window that show a pause


@dataclass(frozen=True, slots=True)
class Timed:
    """The latencies of a step, window by window, and those from before the rollout, second by second."""

    candidate: Latencies
    stable: Latencies
    before: Latencies
    seconds: Array  # that each window of the step lasts
    before_s: float


def timed(evidence: Evidence) -> Timed:
    """What the guards of latencies look at."""

    def latencies(slots: Sequence[Slot]) -> Latencies:
        return Latencies([slot.inner if evidence.is_mixed else slot.latency for slot in slots])

    return Timed(
        candidate=latencies([window.candidate for window in evidence.windows]),
        stable=latencies([window.stable for window in evidence.windows]),
        before=latencies(evidence.before),
        seconds=np.array([window.seconds for window in evidence.windows], dtype=float),
        before_s=float(len(evidence.before)),
    )


def judge_latency(guard: Guard, seen: Timed) -> Judged:
    """The candidate's quantile against the bound. Evidence is its share of requests above the allowed latency
    in each second, against the share that a quantile leaves above it.

    The reference is the higher of the stable version's quantile in this step and before the rollout: with a
    split load whoever has more of it has the longer queue, and at 100% there is no other left. For the same
    reason a second in which the candidate has more load than the stable version had when it was measured is
    no evidence, though it counts for the quantile as it is.
    """
    assert guard.quantile is not None, "a guard of a latency"
    quantile = guard.quantile
    candidate, fewest = seen.candidate, _fewest(quantile)
    reference = None if guard.relation == "absolute" else _reference(quantile, seen)
    if guard.relation != "absolute" and reference is None:
        return Judged(missing=f"fewer than {fewest} latencies of the stable version are known")
    if not candidate.count:
        return Judged(missing="no latency of the candidate is known")
    allowed_s = _allowed(guard, reference.plain_s if reference else 0.0)
    found_s = candidate.quantile(quantile)
    return Judged(
        candidate=found_s,
        reference=reference.plain_s if reference else None,
        seen=candidate.count,
        is_within=found_s <= allowed_s or _is_pausing_as_often(quantile, allowed_s, seen),
        missing="" if candidate.count >= fewest else f"{candidate.count:.0f} of {fewest} latencies are known",
        trial=_trial(guard, quantile, reference, seen),
    )


@dataclass(frozen=True, slots=True)
class _Reference:
    plain_s: float
    upper_s: float  # what it may be
    load: float  # requests computed each second when it was measured


def _trial(guard: Guard, quantile: float, reference: _Reference | None, seen: Timed) -> Trial:
    allowed_s = _allowed(guard, reference.upper_s if reference else 0.0)
    usual = 1 - quantile
    counts, stable_counts = seen.candidate.counts, seen.stable.counts
    slow = seen.candidate.above(allowed_s)
    stable_slow = seen.stable.above(reference.upper_s if reference else allowed_s)
    chosen = counts > 0
    if reference:
        chosen &= _bears(counts, seen.seconds, reference.load)
    counts, slow, stable_counts, stable_slow = filled(
        fewest_in_window(usual), counts[chosen], slow[chosen], stable_counts[chosen], stable_slow[chosen]
    )
    allowed = suffering(stable_slow, stable_counts, usual)
    bets = _bets(slow > np.maximum(_TIMES * usual * counts, 1))
    return trial(slow[bets], counts[bets], allowed[bets], burst=1, times=_TIMES)


def _bets(is_paused: Array) -> Array:
    """The windows that are bet on: none of the few after a pause, which hold what has queued. Whether one
    bets may depend on what was before, so the test stays valid."""
    bets = np.ones(len(is_paused), dtype=bool)
    for number in np.flatnonzero(is_paused).tolist():
        if bets[number]:
            bets[number + 1 : number + 1 + _REST] = False
    return bets


def _allowed(guard: Guard, reference_s: float) -> float:
    match guard.relation:
        case "ratio":
            return guard.bound * reference_s
        case "difference":
            return guard.bound + reference_s
        case "absolute":
            return guard.bound


def _fewest(quantile: float) -> int:
    return max(_FEWEST, math.ceil(1 / (1 - quantile) - 1e-6))


def _reference(quantile: float, seen: Timed) -> _Reference | None:
    known = [
        (latencies, seconds)
        for latencies, seconds in ((seen.stable, float(seen.seconds.sum())), (seen.before, seen.before_s))
        if latencies.count >= _fewest(quantile)
    ]
    if not known:
        return None
    return _Reference(
        plain_s=max(latencies.quantile(quantile) for latencies, _ in known),
        upper_s=max(latencies.quantile(_upper(quantile, latencies.count)) for latencies, _ in known),
        load=max(latencies.count / seconds for latencies, seconds in known),
    )


def _upper(quantile: float, count: float) -> float:
    return min(1.0, quantile + _DEVIATIONS * math.sqrt(quantile * (1 - quantile) / count))


def _bears(counts: Array, seconds: Array, load: float) -> Array:
    """Windows before which the candidate had no more load than the stable version has borne."""
    ends = np.arange(1, len(counts) + 1)
    starts = np.maximum(ends - _SMOOTHED, 0)
    counted, lasted = np.append(0.0, np.cumsum(counts)), np.append(0.0, np.cumsum(seconds))
    span = lasted[ends] - lasted[starts]
    noise = 3 * np.sqrt(load / span)  # of a count of independent arrivals
    most = load + np.maximum(_LOAD_TOLERANCE * load, noise)
    return np.asarray((counted[ends] - counted[starts]) / span <= most)


def _is_pausing_as_often(quantile: float, allowed_s: float, seen: Timed) -> bool:
    """Whether the candidate is past the bound only because of pauses that the stable version may have, too.

    One pause of two seconds moves the p99 of three minutes, so the quantile itself would hold every second
    good version for as long. Pauses are counted instead, one for all windows in a row, and their rate is
    compared with the most that goes with what the stable version has shown.
    """
    is_paused = _pauses(quantile, allowed_s, seen.candidate)
    if not seen.candidate.quantile(quantile, ~is_paused) <= allowed_s:
        return False
    stable = _num_runs(_pauses(quantile, allowed_s, seen.stable))
    before = _num_runs(_pauses(quantile, allowed_s, seen.before))
    lasted_s = seen.seconds[seen.stable.counts >= _SHOWN].sum() + seen.before_s
    expected = stable + before + 1
    most = expected + 2 * math.sqrt(expected)
    return bool(_num_runs(is_paused) * lasted_s <= most * seen.seconds.sum())


def _pauses(quantile: float, allowed_s: float, latencies: Latencies) -> Array:
    limit = np.maximum(_PAUSED * (1 - quantile) * latencies.counts, 1)
    return np.asarray(latencies.above(allowed_s) > limit)


def _num_runs(is_paused: Array) -> int:
    return int((is_paused & ~np.append(False, is_paused[:-1])).sum())
