"""What is seen of replicas becomes seconds, and how long their starts took."""

import numpy as np
import pytest

from benchmarks.replay import Look, Replayed, Watch
from deployments.open_loop import OpenLoad

LOOKS = [
    Look(0.0, 1, 0, 0),
    Look(2.0, 1, 2, 0),
    Look(5.0, 2, 1, 0),
    Look(6.0, 3, 0, 0),
    Look(10.0, 1, 0, 2),
    Look(12.0, 1, 0, 0),
]


def test_each_replica_counts_from_being_asked_for_to_being_gone() -> None:
    watch = Watch(LOOKS)
    assert watch.replica_s(20.0) == pytest.approx(1 * 2 + 3 * 3 + 3 * 1 + 3 * 4 + 3 * 2 + 1 * 8)
    assert watch.running_s(20.0) == pytest.approx(1 * 5 + 2 * 1 + 3 * 4 + 1 * 10)
    assert watch.replica_s(1.0) == 1.0


def test_starts_are_told_in_the_order_in_which_they_were_done() -> None:
    assert Watch(LOOKS).starts() == [(2.0, 3.0), (2.0, 4.0)]
    assert Watch(LOOKS).stop_s() == 2.0
    given_up = [
        Look(0.0, 1, 0, 0),
        Look(1.0, 1, 3, 0),
        Look(4.0, 2, 0, 2),
        Look(5.0, 2, 1, 0),
        Look(9.0, 3, 0, 0),
    ]
    assert Watch(given_up).starts() == [(1.0, 3.0), (5.0, 4.0)]


def test_what_was_seen_before_the_first_request_does_not_count() -> None:
    watch = Watch(LOOKS).since(5.5)
    assert watch.looks[0] == Look(0.0, 2, 1, 0)
    assert watch.looks[1] == Look(0.5, 3, 0, 0)


def test_an_outcome_is_in_a_simulations_words() -> None:
    times, latency = np.array([0.5, 3.0]), np.array([0.1, 2.0])
    load = OpenLoad(times, times, latency, np.array([200, 503]))
    outcome = Replayed(load, Watch(LOOKS)).outcome("real", 1.0)
    assert (outcome.misses, outcome.refused) == (1, 1)
    assert outcome.replica_s == pytest.approx(2 + 3 * 3)
    assert [second.starting for second in outcome.seconds] == [0, 0, 2, 2, 2, 1]
    assert outcome.targets[:2] == [1, 3]
