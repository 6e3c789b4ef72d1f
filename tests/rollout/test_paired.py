"""A regression is told from noise, however the noise is spread."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from rollout.paired import Verdict, combine, judge, suspects

MEASURES = 6
PAIRS = 80  # of one run, at most
TOLERANCE = 0.1

# What the machine adds to each of so many slots of time, as log(seconds).
Noise = Callable[[np.random.Generator, int], np.ndarray]


def calm(random: np.random.Generator, slots: int) -> np.ndarray:
    return random.normal(0, 0.03, slots)


def heavy(random: np.random.Generator, slots: int) -> np.ndarray:
    """Some slots take several times as long."""
    return 0.08 * random.standard_t(1.5, slots)


def drifting(random: np.random.Generator, slots: int) -> np.ndarray:
    """It grows slower all the time, and wanders."""
    return 0.004 * np.arange(slots) + np.cumsum(random.normal(0, 0.05, slots))


def bursts(random: np.random.Generator, slots: int) -> np.ndarray:
    """Another program has every second slot for a while, in step with ours."""
    busy = np.repeat(random.random(slots // 20 + 1) < 0.5, 20)[:slots]
    return 0.05 * random.standard_t(3, slots) + busy * (np.arange(slots) % 2) * math.log(2)


NOISES = [calm, heavy, drifting, bursts]


def run(
    random: np.random.Generator, noise: Noise, ratio: float, placing: float, names: list[int]
) -> dict[int, Verdict]:
    """One run of two processes; `placing`: how much faster or slower a process is for as long as it lives."""
    found = {}
    for name in names:
        slots = noise(random, 2 * PAIRS).reshape(PAIRS, 2)
        new_is_first = random.random(PAIRS) < 0.5
        old = np.where(new_is_first, slots[:, 1], slots[:, 0])
        new = np.where(new_is_first, slots[:, 0], slots[:, 1])
        shift = math.log(ratio) + random.normal(0, placing) * math.sqrt(2)
        found[name] = judge((new - old + shift).tolist(), TOLERANCE, len(names))
    return found


def fails(random: np.random.Generator, noise: Noise, ratio: float, placing: float) -> bool:
    runs: list[dict[int, Verdict]] = []
    names = list(range(MEASURES))
    while names:
        runs.append(run(random, noise, ratio, placing, names))
        names = suspects(runs)
    return any(verdict.state == "worse" for verdict in combine(runs).values())


@pytest.mark.parametrize("noise", NOISES)
def test_an_unchanged_build_passes_a_thousand_times(noise: Noise) -> None:
    random = np.random.default_rng(1)
    assert sum(fails(random, noise, 1.0, placing=0.02) for _ in range(1000)) == 0


@pytest.mark.parametrize("noise", NOISES)
def test_a_build_at_the_tolerance_fails_hardly_ever(noise: Noise) -> None:
    """What the bets promise, with nothing to spare: 1% where processes do not differ by themselves."""
    random = np.random.default_rng(2)
    assert sum(fails(random, noise, 1 + TOLERANCE, placing=0.0) for _ in range(200)) <= 4


@pytest.mark.parametrize(("noise", "ratio"), [(calm, 1.2), (heavy, 1.25), (drifting, 1.2), (bursts, 1.4)])
def test_a_slower_build_fails_nearly_always(noise: Noise, ratio: float) -> None:
    random = np.random.default_rng(3)
    assert sum(fails(random, noise, ratio, placing=0.01) for _ in range(200)) >= 194


def test_a_faster_build_is_ok_after_few_pairs() -> None:
    verdict = judge([-0.2] * 6, TOLERANCE, MEASURES)
    assert verdict.state == "ok"
    assert verdict.ratio == pytest.approx(math.exp(-0.2))


def test_what_was_clear_once_stays_so() -> None:
    assert judge([0.0] * 6 + [1.0] * 200, TOLERANCE).state == "ok"
    assert judge([1.0] * 20 + [0.0] * 200, TOLERANCE, MEASURES).state == "worse"


def test_more_measures_need_more_evidence() -> None:
    ratios = [0.3] * 7
    assert judge(ratios, TOLERANCE, 1).state == "worse"
    assert judge(ratios, TOLERANCE, 1000).state == "unsure"


def test_nothing_measured_is_unsure() -> None:
    verdict = judge([], TOLERANCE)
    assert (verdict.state, verdict.num_pairs) == ("unsure", 0)
    assert math.isnan(verdict.ratio)


def verdict(state: str, ratio: float = 1.0) -> Verdict:
    return Verdict(state, ratio, 10, 1.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("states", "together"),
    [
        (["ok"], "ok"),
        (["unsure"], "unsure"),
        (["worse"], "unsure"),
        (["worse", "worse"], "worse"),
        (["worse", "ok"], "unsure"),
        (["worse", "unsure"], "unsure"),
        (["worse", "ok", "worse"], "worse"),
        (["worse", "ok", "ok"], "ok"),
    ],
)
def test_worse_is_what_two_runs_find(states: list[str], together: str) -> None:
    found = combine([{"a": verdict(state)} for state in states])
    assert found["a"].state == together
    assert found["a"].num_pairs == 10 * len(states)


def test_the_ratio_is_that_of_the_runs_that_decided() -> None:
    assert combine([{"a": verdict("worse", 1.4)}, {"a": verdict("worse", 1.2)}])["a"].ratio == pytest.approx(
        1.3
    )
    assert combine([{"a": verdict("worse", 9.0)}, *[{"a": verdict("ok", 1.0)}] * 2])["a"].ratio == 1.0


def test_new_processes_decide_about_what_was_worse_once_and_three_are_enough() -> None:
    first = {"a": verdict("worse"), "b": verdict("ok"), "c": verdict("unsure")}
    assert suspects([first]) == ["a"]
    assert suspects([first, {"a": verdict("worse")}]) == []
    assert suspects([first, {"a": verdict("ok")}]) == ["a"]
    assert suspects([first, {"a": verdict("ok")}, {"a": verdict("unsure")}]) == []
