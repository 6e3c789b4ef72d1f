"""A histogram holds every value once, within the lines it may have."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from headrace.sketch import Sketch
from monitoring.histogram import bins_of, lines


def sketch(values: list[float]) -> Sketch:
    found = Sketch()
    for value in values:
        found.add(value)
    return found


@pytest.mark.parametrize("most", [1, 5, 18, 100])
def test_every_value_is_in_one_bin(most: int) -> None:
    values = np.random.default_rng(0).lognormal(-4, 1.5, 2000).tolist()
    found = bins_of(sketch(values), most)
    assert sum(entry.count for entry in found) == 2000
    assert len(found) <= most
    assert all(first.high == second.low for first, second in pairwise(found))


def test_a_value_lies_between_the_edges_of_its_bin() -> None:
    for value in np.geomspace(1e-6, 100, 500).tolist():
        (found,) = bins_of(sketch([value]), 10)
        assert found.low * 0.99 <= value <= found.high * 1.01


def test_the_fullest_bin_has_the_longest_bar() -> None:
    drawn = lines(sketch([0.001] * 10 + [0.01] * 20), 20, 60)
    assert drawn[0].startswith(" 1.00 ms █")
    assert drawn[0].count("█") * 2 == drawn[-1].count("█")
    assert drawn[-1].endswith(" 20")
    assert all(len(line) <= 60 for line in drawn)


def test_nothing_has_no_lines() -> None:
    assert lines(Sketch(), 10, 80) == []
