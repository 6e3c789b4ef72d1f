from __future__ import annotations

from cache.worth import Mean, Worth


def told(computing: float, fetching: float, count: int = 100) -> Worth:
    worth = Worth()
    for _ in range(count):
        worth.computing.add(computing)
        worth.fetching.add(fetching)
    return worth


def test_a_store_that_is_quicker_than_computing_is_asked() -> None:
    assert all(told(0.003, 0.0003).is_worth_it() for _ in range(10))


def test_one_that_is_slower_is_asked_now_and_then() -> None:
    worth = told(0.0001, 0.0003)
    assert 0 < sum(worth.is_worth_it() for _ in range(1000)) < 50


def test_whoever_wants_it_has_it_asked_always() -> None:
    worth = Worth(is_always=True)
    for _ in range(100):
        worth.computing.add(0.0001)
        worth.fetching.add(0.0003)
    assert all(worth.is_worth_it() for _ in range(100))


def test_as_long_as_little_is_known_it_is_asked() -> None:
    assert told(0.0001, 0.0003, 5).is_worth_it()


def test_a_mean_follows_what_changes() -> None:
    mean = Mean()
    for value in [1.0] * 100 + [3.0] * 200:
        mean.add(value)
    assert abs(mean.value - 3) < 0.01
