"""A call goes to the least busy replica; equally busy ones take turns."""

from __future__ import annotations

from collections import Counter

from deployments.routing import drawn


def test_the_least_busy_of_few_is_always_found() -> None:
    replicas = [f"r{number}" for number in range(8)]
    calls = dict.fromkeys(replicas, 2) | {"r5": 1}
    assert {drawn(replicas, calls)[0] for _ in range(50)} == {"r5"}


def test_what_is_not_known_counts_as_idle() -> None:
    assert drawn(["a", "b"], {"a": 1}) == ["b", "a"]


def test_equally_busy_ones_are_taken_in_turn() -> None:
    firsts = Counter(drawn(["a", "b", "c"], {})[0] for _ in range(600))
    assert min(firsts.values()) > 120


def test_of_many_only_some_are_looked_at() -> None:
    assert len(drawn([str(number) for number in range(1000)], {})) == 16
