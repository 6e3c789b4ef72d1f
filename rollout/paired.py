"""Old and new in turns -> whether the new one is worse, beyond noise (pure).

Both sides of a pair run one right after the other, in an order drawn by lot. So of two builds that are the
same, each is as likely the slower one of a pair, however the machine's noise is spread and whatever it did
before: the test is exact, it needs no distribution. It looks at one bit of each pair, whether the new side
was worse by more than the tolerance, and bets on it. The product of the bets is an e-value: the chance that
it ever exceeds 1/a while there is nothing to find is at most a, so that one may look after each pair and
stop when it is clear (Ville's inequality; G. Shafer, "Testing by betting", 2021).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean as mean
from statistics import median
from typing import Literal, TypeVar

_STAKES = (0.2, 0.4, 0.6, 0.8, 0.95)  # shares of what was won so far, the mean of which is taken
_FALSE_ALARMS = 0.05  # of all runs of two processes, all measures together; it takes two to fail
_OVERLOOKED = 0.05  # of the measures that are worse by more than the tolerance
_MOST_RUNS = 3  # each with processes of its own
_RUNS_TO_FAIL = 2

State = Literal["ok", "worse", "unsure"]
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Verdict:
    """About one measure, by the pairs of two processes."""

    state: State
    ratio: float  # new to old, the median of the pairs; more is worse; NaN without a pair
    num_pairs: int
    evidence: float  # the e-value against "it is not worse by more than the tolerance"


def judge(log_ratios: Sequence[float], tolerance: float, num_measures: int = 1) -> Verdict:
    """What the pairs say of one of so many measures, each pair told as log(new / old), the first first.

    `tolerance` 0.1: up to 1.1 times as much is no regression. Pairs after the one that made it clear change
    the ratio alone.
    """
    limit = math.log1p(tolerance)
    worse, better = [[1.0] * len(_STAKES) for _ in range(2)]  # what each stake has become
    state: State = "unsure"
    for ratio in log_ratios:
        won = (ratio > limit) - (ratio < limit)
        worse = [held * (1 + won * stake) for held, stake in zip(worse, _STAKES, strict=True)]
        better = [held * (1 - won * stake) for held, stake in zip(better, _STAKES, strict=True)]
        if mean(worse) >= num_measures / _FALSE_ALARMS:
            state = "worse"
            break
        if mean(better) >= 1 / _OVERLOOKED:
            state = "ok"
            break
    ratio = math.exp(median(log_ratios)) if log_ratios else math.nan
    return Verdict(state, ratio, len(log_ratios), mean(worse))


def combine(runs: Sequence[Mapping[Key, Verdict]]) -> dict[Key, Verdict]:
    """All runs together, each with processes of its own: worse is what two runs found worse.

    Where a process happens to lie in memory makes it faster or slower for as long as it lives, which no
    number of pairs can tell from the build.
    """
    found: dict[Key, Verdict] = {}
    for name, told in _by_measure(runs).items():
        states = [verdict.state for verdict in told]
        state: State = "unsure"
        if states.count("worse") >= _RUNS_TO_FAIL:
            state = "worse"
        elif states.count("ok") > states.count("worse"):
            state = "ok"
        decisive = [verdict for verdict in told if verdict.state == state] or told
        found[name] = Verdict(
            state,
            median(verdict.ratio for verdict in decisive),
            sum(verdict.num_pairs for verdict in told),
            min(verdict.evidence for verdict in decisive),
        )
    return found


def suspects(runs: Sequence[Mapping[Key, Verdict]]) -> list[Key]:
    """The measures that another run, with new processes, is to decide about; none: it is decided."""
    return [
        name
        for name, told in _by_measure(runs).items()
        if 0 < sum(verdict.state == "worse" for verdict in told) < _RUNS_TO_FAIL and len(told) < _MOST_RUNS
    ]


def _by_measure(runs: Sequence[Mapping[Key, Verdict]]) -> dict[Key, list[Verdict]]:
    found: dict[Key, list[Verdict]] = {}
    for run in runs:
        for name, verdict in run.items():
            found.setdefault(name, []).append(verdict)
    return found
