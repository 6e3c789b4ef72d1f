"""The engine's ceiling: how windows are cut, and that every row is run."""

from __future__ import annotations

import numpy as np

from benchmarks.ceiling import WINDOWS, Way, groups_of, per_second, ways
from benchmarks.servers.base import Setup, Task


def test_one_by_one_is_the_order_of_arrival() -> None:
    assert groups_of([np.zeros(3)] * 3, 1, can_pad=True) == [[0], [1], [2]]


def test_windows_are_sorted_by_size_and_cut_into_groups() -> None:
    sizes = np.random.default_rng(0).integers(1, 50, 100)
    groups = groups_of([np.zeros(size) for size in sizes], 8, can_pad=True)
    assert sorted(number for group in groups for number in group) == list(range(100))
    assert [len(group) for group in groups] == [8] * 8 + [8] * 4 + [4]
    assert {number for group in groups[:8] for number in group} == set(range(64))
    first = [sizes[number] for group in groups[:8] for number in group]
    assert first == sorted(first)


def test_rows_that_cannot_be_padded_are_grouped_by_shape() -> None:
    rows = [np.zeros(size) for size in (3, 4, 3, 3, 4)]
    assert groups_of(rows, 2, can_pad=False) == [[0, 2], [3], [1, 4]]


def test_both_ways_to_spend_the_threads_are_tried() -> None:
    tried = [way.setup for way in ways(is_quick=False) if way.name == WINDOWS]
    assert {(setup.workers, setup.threads) for setup in tried} == {(1, 2), (2, 1)}
    assert {setup.batch for setup in tried} == {8, 16}


def test_instances_share_the_rows_and_end(task: Task) -> None:
    assert per_second(task, Way(WINDOWS, Setup(2, 1, 8)), 80) > 0
