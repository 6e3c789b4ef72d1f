"""Cosines by row."""

import numpy as np
import pytest

from headrace.likeness import cosine, cosines


def test_each_row_is_compared_with_its_own() -> None:
    first = np.array([[1.0, 0.0], [1.0, 1.0], [2.0, 0.0]])
    second = np.array([[3.0, 0.0], [1.0, -1.0], [-1.0, 0.0]])
    assert cosines(first, second) == pytest.approx([1, 0, -1])


def test_zeros_are_like_zeros_alone() -> None:
    assert cosines(np.zeros((2, 2)), np.array([[0.0, 0.0], [1.0, 0.0]])).tolist() == [1, 0]


def test_a_rounded_cosine_is_no_more_than_one() -> None:
    row = np.full(1000, 0.1)
    assert cosine(row, row * 3) <= 1
