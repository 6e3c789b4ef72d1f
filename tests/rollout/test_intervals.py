"""Intervals hold at all looks together, for shares, means, ratios and quantiles."""

import numpy as np
import pytest

from headrace.sketch import Sketch
from rollout.effects import FEWEST_REQUESTS, quantile_interval
from rollout.intervals import FEWEST_WINDOWS, boundary, ratio_path
from rollout.tallies import Latencies

RUNS, SECONDS, ALPHA = 1000, 600, 0.05


def coverage(over, under, truth, spare=0.0):
    """The share of runs whose interval held the truth after every second."""
    path = ratio_path(over, under, spare)
    known = np.cumsum(under > 0, axis=1)
    half = boundary(np.maximum(known, 1).astype(float), ALPHA) * np.sqrt(path.variance)
    is_early = (known < FEWEST_WINDOWS) | (np.cumsum(under, axis=1) < FEWEST_REQUESTS)
    return ((np.abs(path.value - truth) <= half) | is_early).all(axis=1).mean()


@pytest.mark.parametrize("load", [5, 50])
@pytest.mark.parametrize("share", [0.0005, 0.003, 0.01, 0.05, 0.3])
def test_shares(load, share):
    random = np.random.default_rng(1)
    seen = random.poisson(load, (RUNS, SECONDS))
    bad = random.binomial(seen, share)
    assert coverage(bad.astype(float), seen.astype(float), share, spare=2.0) >= 0.95


def test_means_of_requests_that_vary_together_within_a_second():
    random = np.random.default_rng(2)
    seen = random.poisson(20, (RUNS, SECONDS)).astype(float)
    spent = random.gamma(2.0, 0.005, (RUNS, SECONDS)) * seen
    assert coverage(spent, seen, 0.01) >= 0.95


def test_differences_and_ratios_of_two_variants():
    random = np.random.default_rng(3)
    paths = []
    for mean in (0.01, 0.02):
        seen = random.poisson(20, (RUNS, SECONDS)).astype(float)
        paths.append(ratio_path(random.gamma(2.0, mean / 2, (RUNS, SECONDS)) * seen, seen))
    first, second = paths
    half = boundary(np.arange(1.0, SECONDS + 1), ALPHA)
    difference = np.abs(second.value - first.value - 0.01) <= half * np.sqrt(first.variance + second.variance)
    relative = np.sqrt(first.variance / first.value**2 + second.variance / second.value**2)
    ratio = np.abs(np.log(second.value / first.value / 2)) <= half * relative
    assert difference[:, FEWEST_WINDOWS:].all(axis=1).mean() >= 0.95
    assert ratio[:, FEWEST_WINDOWS:].all(axis=1).mean() >= 0.95


def test_a_fixed_sample_interval_would_not_hold_at_all_looks():
    """So the tests above could fail."""
    random = np.random.default_rng(1)
    seen = random.poisson(50, (RUNS, SECONDS)).astype(float)
    bad = random.binomial(seen.astype(int), 0.3).astype(float)
    path = ratio_path(bad, seen)
    is_in = np.abs(path.value - 0.3) <= 1.96 * np.sqrt(path.variance)
    assert is_in[:, FEWEST_WINDOWS:].all(axis=1).mean() < 0.8


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_quantiles(share):
    random = np.random.default_rng(4)
    truth = float(np.exp(-3 + 0.5 * {0.5: 0.0, 0.99: 2.3263}[share]))
    runs = 100
    is_in = np.ones(runs, dtype=bool)
    for run in range(runs):
        sketches = []
        for second in range(300):
            sketch = Sketch()
            slower = random.normal(0, 0.02)  # all requests of a second
            for value in np.exp(-3 + 0.5 * random.standard_normal(10) + slower):
                sketch.add(float(value))
            sketches.append(sketch)
            if second >= FEWEST_WINDOWS and second % 30 == 0:
                found = quantile_interval(Latencies(sketches), share, ALPHA)
                is_in[run] &= found.low / 1.01 <= truth <= found.high * 1.01  # the width of a bin
    assert is_in.mean() >= 0.95


def test_intervals_shrink():
    halves = boundary(np.array([60.0, 600.0, 6000.0]), ALPHA) / np.sqrt([60.0, 600.0, 6000.0])
    assert halves[0] > 2 * halves[1] > 4 * halves[2]
