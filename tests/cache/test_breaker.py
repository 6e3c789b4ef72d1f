"""When a neighbour that failed is called again."""

from __future__ import annotations

from cache.breaker import Breaker


def test_the_breaker_opens_after_three_faults_in_a_row() -> None:
    breaker = Breaker()
    for _ in range(2):
        breaker.failed(0)
    breaker.succeeded()
    for _ in range(2):
        breaker.failed(0)
    assert breaker.enter(0)
    breaker.failed(0)
    assert not breaker.enter(0.49)


def test_the_breaker_lets_one_probe_through_and_doubles_its_pause_up_to_five_seconds() -> None:
    breaker = Breaker()
    for _ in range(3):
        breaker.failed(0)
    now = 0.0
    for pause in (0.5, 1.0, 2.0, 4.0, 5.0, 5.0):
        assert not breaker.enter(now + pause - 0.01)
        now += pause
        assert breaker.enter(now)
        assert not breaker.enter(now)
        breaker.failed(now)
    assert breaker.enter(now + 5)
    breaker.succeeded()
    assert breaker.enter(now + 5)
    assert breaker.enter(now + 5)


def test_calls_that_fail_together_open_the_breaker_once() -> None:
    breaker = Breaker()
    assert all(breaker.enter(0) for _ in range(30))
    for _ in range(30):
        breaker.failed(0)
    assert breaker.enter(0.5)


def test_a_cancelled_probe_makes_room_for_the_next() -> None:
    breaker = Breaker()
    for _ in range(3):
        breaker.failed(0)
    assert breaker.enter(0.5)
    breaker.left()
    assert breaker.enter(0.5)
