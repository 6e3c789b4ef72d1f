"""Long steps in few windows, and windows with enough requests."""

import numpy as np

from rollout.blocks import condense, filled
from rollout.evidence import Slot, Window


def seconds(number, requests=1):
    return [Window(Slot(requests=90), Slot(requests=requests)) for _ in range(number)]


def test_the_first_minutes_stay_as_they_are():
    rows = seconds(300)
    assert condense(rows) == tuple(rows)


def test_a_day_is_about_2000_windows_and_loses_nothing():
    rows = condense(seconds(86_400))
    assert 1500 < len(rows) < 2500
    assert sum(row.seconds for row in rows) == 86_400
    assert sum(row.candidate.requests for row in rows) == 86_400
    assert sum(row.stable.requests for row in rows) == 90 * 86_400


def test_what_was_condensed_can_be_given_again_with_what_came_since():
    rows = seconds(2_000)
    grown: tuple[Window, ...] = ()
    for start in range(0, 2_000, 7):
        grown = condense((*grown, *rows[start : start + 7]))
    assert grown == condense(rows)


def test_windows_of_few_requests_are_added_up():
    seen, bad = filled(5, np.array([2.0, 2.0, 0.0, 3.0, 6.0, 1.0]), np.array([1.0, 0.0, 0.0, 1.0, 0.0, 1.0]))
    assert seen.tolist() == [7.0, 6.0]
    assert bad.tolist() == [2.0, 0.0]  # what is left over waits


def test_windows_that_have_enough_stay_as_they_are():
    seen = np.array([5.0, 9.0])
    assert filled(5, seen)[0] is seen


def test_nothing_stays_nothing():
    assert [len(row) for row in filled(5, np.zeros(0), np.zeros(0))] == [0, 0]
    assert [len(row) for row in filled(5, np.ones(3), np.zeros(3))] == [0, 0]
