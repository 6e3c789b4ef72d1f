"""A sample of inputs: fair, recent, and never larger than it may be."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np

from batching.sample import InputSample


def request(number: int, size: int = 1) -> dict[str, np.ndarray]:
    return {"x": np.full(size, number, np.int64)}


def numbers(sample: InputSample) -> list[int]:
    return [int(inputs["x"][0]) for inputs in sample.kept()]


def test_the_first_ones_are_all_kept() -> None:
    sample = InputSample(5)
    for number in range(5):
        sample.note(request(number))
    assert sorted(numbers(sample)) == [0, 1, 2, 3, 4]


def test_each_of_the_last_requests_is_about_as_likely_to_be_there() -> None:
    found: Counter[int] = Counter()
    for seed in range(2000):
        sample = InputSample(10, chance=random.Random(seed))
        for number in range(200):
            sample.note(request(number))
        assert len(sample.kept()) == 10
        found.update(number // 50 for number in numbers(sample))
    for quarter in range(4):  # 5,000 each, with a standard deviation of about 60
        assert abs(found[quarter] - 5000) < 300


def test_what_is_long_ago_has_faded() -> None:
    sample = InputSample(10, chance=random.Random(1))
    for number in range(20_000):
        sample.note(request(number))
    assert min(numbers(sample)) > 10_000


def test_bytes_are_bounded_and_large_requests_do_not_push_all_others_out() -> None:
    sample = InputSample(100, max_bytes=8000, chance=random.Random(1))
    for number in range(500):
        sample.note(request(number, size=100 if number % 5 else 1000))  # 800 bytes, or too large
        assert sum(inputs["x"].nbytes for inputs in sample.kept()) <= 8000
    assert len(sample.kept()) == 10
    assert all(inputs["x"].size == 100 for inputs in sample.kept())


def test_after_large_requests_there_is_room_for_more_small_ones_again() -> None:
    sample = InputSample(100, max_bytes=8000, chance=random.Random(1))
    for number in range(100):
        sample.note(request(number, size=100))
    for number in range(100, 20_000):
        sample.note(request(number))
    assert len(sample.kept()) > 50


def test_what_is_kept_is_a_copy() -> None:
    sample, inputs = InputSample(1), request(1)
    sample.note(inputs)
    inputs["x"][0] = 2
    assert numbers(sample) == [1]


def test_text_counts_by_its_length() -> None:
    sample = InputSample(100, max_bytes=1000)
    for _ in range(50):
        sample.note({"t": np.array([b"x" * 92], object)})
    assert len(sample.kept()) == 10
