"""Latencies as arrays say what the sketches say."""

import math

import numpy as np
import pytest

from headrace.sketch import Sketch, merged
from rollout.tallies import Latencies


def sketches(num=5, size=200):
    random = np.random.default_rng(1)
    found = []
    for _ in range(num):
        sketch = Sketch()
        for value in random.lognormal(-3, 0.5, size):
            sketch.add(value)
        found.append(sketch)
    return [*found, Sketch()]


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99, 1.0])
def test_quantiles_are_those_of_the_merged_sketch(share):
    rows = sketches()
    assert Latencies(rows).quantile(share) == merged(rows).quantile(share)


def test_windows_are_counted_as_their_sketches_count():
    rows = sketches()
    found = Latencies(rows)
    assert found.counts.tolist() == [row.count for row in rows]
    assert found.above(0.06).tolist() == [row.num_above(0.06) for row in rows]


def test_only_some_windows():
    rows = sketches()
    chosen = np.array([True, False, True, False, False, False])
    assert Latencies(rows).quantile(0.5, chosen) == merged([rows[0], rows[2]]).quantile(0.5)


def test_nothing_has_no_quantile():
    assert math.isnan(Latencies([Sketch()]).quantile(0.5))
    assert Latencies([]).count == 0
