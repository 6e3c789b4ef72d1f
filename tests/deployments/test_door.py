"""While a model is overloaded HAProxy is told how many requests are held; else nothing."""

from __future__ import annotations

import pytest

from deployments.door import LIMIT_HEADER, OPEN, RETRY_HEADER, Door


def overloaded(timeout_s: float | None = 0.2, held: int = 24) -> Door:
    """So many are held when one more is refused, at 10 s."""
    door = Door(gateways=2, floor=8)
    for _ in range(held + 1):
        door.came(10.0, timeout_s)
    door.refused(10.0, 2.4, timeout_s)
    door.left()
    return door


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
    for _ in range(60):
        door.came(11.0, 0.2)
        door.refused(11.0, 1.0, 0.2)
        door.left()
    assert limit(door, 11.0) == 2 * 48


def test_an_impatient_caller_that_is_refused_closes_nothing() -> None:
    door = Door(gateways=2, floor=8)
    door.came(1.0, 5.0)
    door.came(1.0, 0.01)
    door.refused(1.0, 1.0, 0.01)
    assert door.headers(1.0) == {}


def test_a_patient_caller_is_forgotten_after_a_while() -> None:
    door = overloaded()
    door.came(10.0, 2.0)
    door.came(21.0, 0.2)
    door.refused(21.0, 1.0, 0.2)
    assert limit(door, 21.0) > 0


def test_after_the_overload_the_limit_is_taken_back_and_then_nothing_is_said() -> None:
    door = overloaded()
    assert limit(door, 11.9) < 100
    assert limit(door, 12.1) == OPEN
    assert door.headers(18.0) == {}
