"""The rate of what is asked: changes are seen within a second, chance is not taken for one."""

import numpy as np
import pytest

from autoscaling.offered import Offered


def ask(offered: Offered, start: float, seconds: float, rate: float, seed: int = 0) -> None:
    gaps = np.random.default_rng(seed).exponential(1 / rate, int(3 * rate * seconds) + 10)
    for at in np.cumsum(gaps):
        if at >= seconds:
            return
        offered.came(start + at, rows=2, elements=10)


def test_nothing_asked_is_nothing_offered() -> None:
    offered = Offered()
    assert offered.per_second(5.0) == (0.0, 0.0)
    offered.came(5.0, 1, 10)
    assert offered.per_second(100.0) == (0.0, 0.0)


def test_rows_and_elements_are_told_apart() -> None:
    offered = Offered()
    ask(offered, 0.0, 20.0, 100)
    rows, elements = offered.per_second(20.0)
    assert rows == pytest.approx(200, rel=0.15)
    assert elements == pytest.approx(5 * rows)


@pytest.mark.parametrize("rate", [20, 100, 1000])
def test_a_steady_rate_is_told_within_a_tenth_most_of_the_time(rate: float) -> None:
    offered = Offered()
    ask(offered, 0.0, 11.0, rate, seed=1)
    found = []
    for step in range(160):
        start = 11.0 + step / 4
        ask(offered, start, 0.25, rate, seed=step + 2)
        found.append(offered.per_second(start + 0.25)[0] / 2 / rate)
    off = np.abs(np.array(found) - 1)
    assert np.mean(off < 0.1 + 1 / np.sqrt(10 * rate)) > 0.8
    assert np.mean(off < 0.5) > 0.97


def test_eight_times_as_much_is_seen_within_a_second() -> None:
    offered = Offered()
    ask(offered, 0.0, 20.0, 40)
    ask(offered, 20.0, 0.8, 320, seed=1)
    assert offered.per_second(20.8)[0] > 2 * 0.8 * 320


def test_an_end_is_seen_within_seconds() -> None:
    offered = Offered()
    ask(offered, 0.0, 20.0, 100)
    assert offered.per_second(22.0)[0] < 30


def test_the_first_requests_are_not_taken_for_a_flood() -> None:
    offered = Offered()
    offered.came(100.1, 1, 1)
    offered.came(100.2, 1, 1)
    assert offered.per_second(100.3)[0] <= 2


def test_what_was_refused_unseen_counts_as_usual_requests() -> None:
    offered = Offered()
    ask(offered, 0.0, 20.0, 100)
    usual = offered.per_second(20.0)
    for tick in range(10):
        now = 20.0 + tick / 10
        offered.came(now, rows=2, elements=10)
        offered.turned_away(now, 80)
    rows, elements = offered.per_second(21.0)
    assert rows == pytest.approx(8 * usual[0], rel=0.2)
    assert elements == pytest.approx(5 * rows, rel=0.05)


def test_refused_ones_before_any_was_seen_count_for_nothing() -> None:
    offered = Offered()
    offered.turned_away(20.1, 100)
    assert offered.per_second(21.0) == (0.0, 0.0)
