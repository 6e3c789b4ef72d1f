"""Two finished runs differ when they do, and seldom when they do not."""

from __future__ import annotations

import numpy as np

from headrace.sketch import Sketch
from rollout.evidence import Slot
from rollout.resample import effects


def windows(
    seed: int, *, count: int = 100, per_window: float = 12.0, scale: float = 1.0, failing: float = 0.0
) -> list[Slot]:
    """What disturbs one window disturbs the next, too."""
    rng = np.random.default_rng(seed)
    level, found = 0.0, []
    for _ in range(count):
        level = 0.5 * level + rng.normal(0, 0.2)
        requests = int(rng.poisson(per_window))
        errors = int(rng.binomial(requests, failing))
        latency = Sketch()
        for value in np.exp(rng.normal(-4 + level, 0.5, requests - errors)) * scale:
            latency.add(float(value))
        found.append(Slot(requests, errors, latency=latency))
    return found


def test_like_runs_seldom_differ() -> None:
    alarms = sum(
        any(effect.is_clear for effect in effects(windows(2 * turn), windows(2 * turn + 1)))
        for turn in range(20)
    )
    assert alarms <= 3


def test_a_slower_run_is_found_and_its_ratio_lies_in_the_interval() -> None:
    found = {effect.measure: effect for effect in effects(windows(0), windows(1, scale=1.5))}
    assert list(found) == ["errors", "p50", "p95", "p99", "throughput"]
    for measure in ("p50", "p95"):
        assert found[measure].is_clear
        assert found[measure].low < 1.5 < found[measure].high
    assert not found["errors"].is_clear


def test_errors_are_a_difference_and_take_from_the_throughput() -> None:
    found = {effect.measure: effect for effect in effects(windows(0), windows(1, failing=0.4))}
    assert found["errors"].relation == "difference"
    assert found["errors"].low < 0.4 < found["errors"].high
    assert found["throughput"].high < 1


def test_windows_of_another_length_make_no_difference_to_the_rate() -> None:
    found = effects(windows(0), windows(1, per_window=24.0), longer=0.5**-1)
    throughput = next(effect for effect in found if effect.measure == "throughput")
    assert throughput.low < 4 < throughput.high
    found = effects(windows(0), windows(1, per_window=24.0), longer=0.5)
    throughput = next(effect for effect in found if effect.measure == "throughput")
    assert throughput.low < 1 < throughput.high


def test_of_few_requests_nothing_is_said() -> None:
    assert effects(windows(0), windows(1, count=40)) == []
    assert effects(windows(0, per_window=0.5), windows(1)) == []


def test_a_run_without_an_answer_is_compared_by_its_errors_alone() -> None:
    (found,) = effects(windows(0), windows(1, failing=1.0))
    assert (found.measure, found.value) == ("errors", 1.0)
