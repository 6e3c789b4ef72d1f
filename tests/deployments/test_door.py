"""While a model is overloaded HAProxy is told how many requests are held; else nothing."""

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
    return int(door.headers(now).get(LIMIT_HEADER, 0))


def test_nothing_is_said_while_all_is_well() -> None:
    assert Door(gateways=2, floor=8).headers(1.0) == {}


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
    assert door.headers(10.0) == {}
    for second in range(11, 20):
        refuse(door, 7, float(second))  # 7 / (1 - 1/e) is 11
        assert door.headers(float(second)) == {}


def test_a_door_that_was_closed_stays_so_while_there_are_refusals() -> None:
    door = overloaded()
    for second in range(11, 20):
        refuse(door, 2, float(second))
        assert limit(door, second + 0.5) < 100


def test_impatient_callers_that_are_refused_close_nothing() -> None:
    door = Door(gateways=2, floor=8)
    door.came(1.0, 5.0)
    refuse(door, 50, 1.0, 0.01)
    assert door.headers(1.0) == {}


def test_a_patient_caller_is_forgotten_after_a_while() -> None:
    door = Door(gateways=2, floor=8)
    door.came(10.0, 2.0)
    refuse(door, 20, 21.0, 0.2)
    assert limit(door, 21.0) > 0


def test_after_the_overload_the_limit_is_taken_back_and_then_nothing_is_said() -> None:
    door = overloaded()
    assert limit(door, 12.9) < 100
    assert limit(door, 13.1) == OPEN
    assert limit(door, 18.0) == OPEN
    assert door.headers(18.2) == {}
