"""While a model is overloaded HAProxy is told how much is worth sending; else nothing."""

from __future__ import annotations

from deployments.door import LIMIT_HEADER, OPEN, RETRY_HEADER, Door


def overloaded(timeout_s: float | None = 0.2) -> Door:
    """A hundred answers a second, and a refusal at 10 s."""
    door = Door(gateways=2, floor=8, max_queue=500)
    for number in range(1000):
        door.came(number / 100, timeout_s)
        door.answered(number / 100)
    door.refused(10.0, wait_s=2.4)
    return door


def limit(door: Door, now: float) -> int:
    return int(door.headers(now).get(LIMIT_HEADER, 0))


def test_nothing_is_said_while_all_is_well() -> None:
    assert Door(gateways=2, floor=8, max_queue=500).headers(1.0) == {}


def test_what_can_be_answered_in_time_is_let_in_and_a_quarter_more_for_all_gateways() -> None:
    door = overloaded()
    assert 2 * 24 <= limit(door, 10.0) <= 2 * 26  # 100 a second for 0.2 s, by 1.25
    assert door.headers(10.0)[RETRY_HEADER] == "2"


def test_the_engine_is_kept_busy_however_short_the_timeouts() -> None:
    assert limit(overloaded(0.001), 10.0) == 2 * 8


def test_who_waits_for_ever_may_fill_the_queue() -> None:
    assert limit(overloaded(None), 10.0) == 2 * 500


def test_one_patient_caller_opens_the_door_and_is_forgotten_after_a_while() -> None:
    door = overloaded()
    door.came(10.0, 2.0)
    assert limit(door, 10.0) > 400
    for number in range(1100):
        door.came(10 + number / 100, 0.2)
    door.refused(21.0, 1.0)
    assert limit(door, 21.0) < 60


def test_after_the_overload_the_limit_is_taken_back_and_then_nothing_is_said() -> None:
    door = overloaded()
    assert limit(door, 11.9) < 100
    assert limit(door, 12.1) == OPEN
    assert door.headers(18.0) == {}
