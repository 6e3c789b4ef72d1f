"""HAProxy is told how many requests are worth sending: what is held under overload, an estimate before."""

from __future__ import annotations

import pytest

from deployments.door import LIMIT_HEADER, OPEN, RETRY_HEADER, Door


def overloaded(timeout_s: float | None = 0.2, held: int = 24, refusals: int = 20) -> Door:
    """So many are held when so many more are refused, at 10 s."""
    door = Door(gateways=2, floor=8)
    for _ in range(held):
        door.came(10.0, timeout_s)
    refuse(door, refusals, 10.0, timeout_s)
    return door


def refuse(door: Door, count: int, now: float, timeout_s: float | None = 0.2) -> None:
    for _ in range(count):
        door.came(now, timeout_s)
        door.refused(now, 2.4, timeout_s)
        door.left()


def limit(door: Door, now: float) -> int:
    return int(door.headers(now)[LIMIT_HEADER])


def expecting(usual_s: float, timeout_s: float | None = 2.0) -> Door:
    """One request has come, at 10 s."""
    door = Door(gateways=2, floor=8, usual_s=lambda: usual_s)
    door.came(10.0, timeout_s)
    return door


def test_as_many_are_let_in_as_are_answered_in_the_time_that_callers_wait() -> None:
    assert expecting(usual_s=0.1).headers(10.0) == {LIMIT_HEADER: "40", RETRY_HEADER: "2"}


def test_an_estimate_is_told_ten_times_a_second() -> None:
    door = expecting(usual_s=0.1)
    assert limit(door, 10.0) == 2 * 20
    assert door.headers(10.05) == {}
    assert limit(door, 10.11) == 2 * 20


@pytest.mark.parametrize(("usual_s", "timeout_s"), [(0.0, 2.0), (0.1, None)], ids=["unknown", "patient"])
def test_without_an_estimate_all_are_let_in(usual_s: float, timeout_s: float | None) -> None:
    assert limit(expecting(usual_s, timeout_s), 10.0) == OPEN


def test_the_estimate_leaves_room_for_one_in_each_engine_and_the_next() -> None:
    assert limit(expecting(usual_s=5.0), 10.0) == 2 * 8


def test_a_body_that_takes_long_keeps_nobody_out() -> None:
    door = expecting(usual_s=0.1)
    with door.coming(), door.coming():
        assert limit(door, 10.0) == 2 * 22
    assert limit(door, 10.2) == 2 * 20


def test_what_had_to_be_refused_goes_before_the_estimate() -> None:
    door = Door(gateways=2, floor=1, usual_s=lambda: 0.001)
    for _ in range(24):
        door.came(10.0, 0.2)
    assert limit(door, 10.0) == 2 * 200
    refuse(door, 20, 10.0)
    assert [limit(door, 10.0) for _ in range(3)] == [2 * 24] * 3
    assert limit(door, 13.1) == 2 * 200


@pytest.mark.parametrize("timeout_s", [0.2, None])
def test_as_many_are_let_in_as_all_gateways_hold_when_they_refuse(timeout_s: float | None) -> None:
    door = overloaded(timeout_s)
    assert limit(door, 10.0) == 2 * 24
    assert door.headers(10.0)[RETRY_HEADER] == "2"


def test_the_engine_is_kept_busy_however_few_are_held() -> None:
    assert limit(overloaded(held=1), 10.0) == 2 * 8


def test_the_limit_follows_what_is_held() -> None:
    door = overloaded()
    for _ in range(24):
        door.came(10.5, 0.2)
    refuse(door, 60, 11.0)
    assert limit(door, 11.0) == 2 * 48


def test_a_few_refusals_close_nothing() -> None:
    door = overloaded(refusals=19)
    assert limit(door, 10.0) == OPEN
    for second in range(11, 20):
        refuse(door, 7, float(second))  # 7 / (1 - 1/e) is 11
        assert limit(door, float(second)) == OPEN


def test_a_door_that_was_closed_stays_so_while_there_are_refusals() -> None:
    door = overloaded()
    for second in range(11, 20):
        refuse(door, 2, float(second))
        assert limit(door, second + 0.5) < 100


def test_impatient_callers_that_are_refused_close_nothing() -> None:
    door = Door(gateways=2, floor=8)
    door.came(1.0, 5.0)
    refuse(door, 50, 1.0, 0.01)
    assert limit(door, 1.0) == OPEN


def test_a_patient_caller_is_forgotten_after_a_while() -> None:
    door = Door(gateways=2, floor=8)
    door.came(10.0, 2.0)
    refuse(door, 20, 21.0, 0.2)
    assert limit(door, 21.0) < 100


def test_after_the_overload_the_limit_is_taken_back() -> None:
    door = overloaded()
    assert limit(door, 12.9) < 100
    assert limit(door, 13.1) == OPEN
