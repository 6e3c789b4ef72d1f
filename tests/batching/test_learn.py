"""Learned buckets against all that there could be."""

from __future__ import annotations

import time
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batching.learn import Seen, learn_buckets, padded_work, volume

NUMBERS = st.integers(1, 4)
COUNTS = st.integers(1, 9)
LENGTHS = st.dictionaries(st.integers(1, 40), COUNTS, min_size=1, max_size=7)
AREAS = st.dictionaries(st.tuples(st.integers(1, 9), st.integers(1, 9)), COUNTS, min_size=1, max_size=5)


def lengths(counts: dict[int, int]) -> list[Seen]:
    return [({"length": length}, count) for length, count in counts.items()]


def areas(counts: dict[tuple[int, int], int]) -> list[Seen]:
    return [({"height": h, "width": w}, count) for (h, w), count in counts.items()]


def least_work(seen: list[Seen], number: int, cost: Any = volume) -> float:
    """Over every choice of buckets whose sizes are seen ones."""
    dims = list(seen[0][0])
    levels = [sorted({sizes[dim] for sizes, _ in seen}) for dim in dims]
    corners = [dict(zip(dims, corner, strict=True)) for corner in product(*levels)]
    number = min(number, len(corners))
    return min(padded_work(seen, chosen, cost) for chosen in combinations(corners, number))


@given(LENGTHS, NUMBERS)
def test_in_one_dimension_no_buckets_pad_less(counts: dict[int, int], number: int) -> None:
    seen = lengths(counts)
    found = learn_buckets(seen, number)
    assert len(found) <= number
    assert padded_work(seen, found) == least_work(seen, number)


@given(LENGTHS, NUMBERS)
def test_the_work_of_a_row_may_be_another(counts: dict[int, int], number: int) -> None:
    def cost(sizes: Any) -> float:
        return 5.0 + float(sizes["length"] ** 2)

    seen = lengths(counts)
    assert padded_work(seen, learn_buckets(seen, number, cost), cost) == least_work(seen, number, cost)


@settings(deadline=None, max_examples=60)
@given(AREAS, st.integers(1, 3))
def test_in_two_dimensions_they_are_near_the_best(counts: dict[tuple[int, int], int], number: int) -> None:
    seen = areas(counts)
    found = learn_buckets(seen, number)
    assert len(found) <= number
    assert found == sorted(found, key=volume), "the first that holds a request is the cheapest"
    least = least_work(seen, number)
    assert least <= padded_work(seen, found) <= 1.5 * least
    if number == 1 or number >= len(seen):
        assert padded_work(seen, found) == least


def test_many_sizes_take_no_time() -> None:
    random = np.random.default_rng(0)
    long = [({"length": int(length)}, 1) for length in random.permutation(4096) + 1]
    wide = [({"height": int(h), "width": int(w)}, 1) for h, w in random.integers(1, 2000, (4096, 2))]
    started = time.process_time()
    for seen in (long, wide):
        found = learn_buckets(seen, 8)
        assert len(found) == 8
        assert padded_work(seen, found) < 0.6 * padded_work(seen, learn_buckets(seen, 1))
    assert time.process_time() - started < 5


def test_nothing_seen_needs_no_bucket_and_no_bucket_is_no_number() -> None:
    assert learn_buckets([], 3) == []
    with pytest.raises(ValueError, match="at least one"):
        learn_buckets([({"length": 1}, 1)], 0)
