"""Two runs of load compared by resampling their windows (pure).

Whoever compares two finished runs looks once, so that the intervals of `rollout.effects`, which hold at every
look, would be wider than need be. Here blocks of neighbouring windows are drawn again, with replacement and
around the end (the circular block bootstrap: Politis and Romano, 1992), since what disturbs one window
disturbs the next. All intervals of a comparison hold together with 95%.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headrace.sketch import value_of
from headrace.tensors import Array
from rollout.effects import FEWEST_REQUESTS, MISTAKES, QUANTILES, Effect, Relation
from rollout.evidence import Slot

FEWEST_WINDOWS = 60  # with a request
_BLOCKS = 25  # in a run
_DRAWS = 4000
_MEASURES = len(QUANTILES) + 2


def effects(
    before: Sequence[Slot], after: Sequence[Slot], longer: float = 1.0, seed: int = 0
) -> list[Effect]:
    """What `after` has otherwise than `before`: p50, p95, p99 and throughput (good answers) as ratios, errors
    as a difference; nothing when one of them has too few requests. `longer`: the windows of `before` in those
    of `after`."""
    if not all(map(_is_enough, (before, after))):
        return []
    rng = np.random.default_rng(seed)
    first, second = (_drawn(windows, rng) for windows in (before, after))
    found = []
    for measure in first:
        if measure not in second:
            continue
        if measure == "errors":
            found.append(_effect(measure, second[measure] - first[measure]))
        else:
            factor = longer if measure == "throughput" else 1.0
            found.append(_effect(measure, factor * second[measure] / first[measure]))
    return found


def _is_enough(windows: Sequence[Slot]) -> bool:
    return (
        sum(slot.requests > 0 for slot in windows) >= FEWEST_WINDOWS
        and sum(slot.requests for slot in windows) >= FEWEST_REQUESTS
    )


def _effect(measure: str, draws: Array) -> Effect:
    """The first draw is the run as it was."""
    alpha = MISTAKES / _MEASURES
    low, high = np.quantile(draws[1:], (alpha / 2, 1 - alpha / 2))
    relation: Relation = "difference" if measure == "errors" else "ratio"
    return Effect(measure, "after", relation, float(draws[0]), float(low), float(high))


def _drawn(windows: Sequence[Slot], rng: np.random.Generator) -> dict[str, Array]:
    """Each measure of the run, and of the runs that were drawn from it."""
    weights = _weights(len(windows), rng)
    requests, errors = (
        np.array([getattr(slot, name) for slot in windows], np.float64) for name in ("requests", "errors")
    )
    asked, failed = weights @ requests, weights @ errors
    measures = {"errors": failed / np.maximum(asked, 1)}
    numbers = sorted({number for slot in windows for number in slot.latency.bins})
    if not numbers:
        return measures
    place = {number: at for at, number in enumerate(numbers)}
    counts = np.zeros((len(windows), len(numbers)))
    for row, slot in enumerate(windows):
        for number, count in slot.latency.bins.items():
            counts[row, place[number]] = count
    reached = np.cumsum(weights @ counts, axis=1)
    if not (reached[:, -1] > 0).all():
        return measures
    values = np.array([value_of(number) for number in numbers])
    for name, share in QUANTILES.items():
        rank = np.maximum(1.0, np.ceil(share * reached[:, -1:] - 1e-9))
        measures[name] = values[np.argmax(reached >= rank, axis=1)]
    return {**measures, "throughput": asked - failed}


def _weights(count: int, rng: np.random.Generator) -> Array:
    """How often each window is in each draw; in the first one, once."""
    length = max(1, count // _BLOCKS)
    starts = rng.integers(0, count, (_DRAWS, -(-count // length)))
    chosen = (starts[:, :, None] + np.arange(length)).reshape(_DRAWS, -1)[:, :count] % count
    weights = np.ones((_DRAWS + 1, count))
    for row, windows in enumerate(chosen, 1):
        weights[row] = np.bincount(windows, minlength=count)
    return weights
