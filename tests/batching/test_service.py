"""The fitted line, and what most batches stay below."""

import numpy as np
import pytest

from batching.service import ServiceTime, Spread


def test_nothing_known_is_no_time() -> None:
    service = ServiceTime()
    assert not service.is_known
    assert service.likely_s(100) == 0


def test_a_line_is_found_from_two_sizes() -> None:
    service = ServiceTime([(10, 0.012), (100, 0.030)])
    assert service.base_s == pytest.approx(0.01, rel=0.02)
    assert service.expected_s(50) == pytest.approx(0.02, rel=0.02)


def test_one_size_alone_is_taken_in_proportion() -> None:
    assert ServiceTime([(10, 0.1)] * 3).expected_s(20) == pytest.approx(0.2)


def test_where_one_size_comes_for_long_the_base_is_as_it_was_and_follows_the_speed() -> None:
    service = ServiceTime([(10, 0.012), (80, 0.026)])
    for seconds in (0.012, 0.006):  # then twice as fast
        for _ in range(500):
            service.observe(10, seconds)
    assert service.expected_s(10) == pytest.approx(0.006, rel=0.05)
    assert service.base_s / service.expected_s(10) == pytest.approx(10 / 12, rel=0.05)


def test_neither_term_goes_below_zero() -> None:
    for points in ([(10, 0.1), (100, 2.0)], [(10, 0.2), (100, 0.1)]):
        service = ServiceTime(points)
        assert service.base_s >= 0
        assert service.per_element_s >= 0
        assert service.expected_s(1) > 0


def test_batches_without_elements_have_a_time_too() -> None:
    assert ServiceTime([(0, 0.01)] * 2).expected_s(0) == pytest.approx(0.01)


def test_what_is_observed_replaces_what_was_told() -> None:
    service = ServiceTime([(10, 1.0), (100, 10.0)])
    for _ in range(200):
        service.observe(10, 0.01)
        service.observe(100, 0.1)
    assert service.expected_s(100) == pytest.approx(0.1, rel=0.02)


def test_nine_of_ten_batches_stay_below_what_is_likely() -> None:
    rng = np.random.default_rng(1)
    service = ServiceTime()
    below = 0
    for number in range(6000):
        seconds = float(rng.lognormal(-3.0, 0.3))
        below += number >= 1000 and seconds <= service.likely_s(8)
        service.observe(8, seconds)
    assert below / 5000 == pytest.approx(0.9, abs=0.02)


def test_a_spread_follows_what_is_longer_than_expected_and_never_goes_far() -> None:
    spread = Spread()
    for _ in range(300):
        spread.observe(1.0, 1.0)
    assert spread.factor == pytest.approx(1.0, abs=0.1)
    for _ in range(100):
        spread.observe(float("inf"), 1.0)
    assert spread.factor == 2.0
