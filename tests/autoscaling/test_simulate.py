"""Requests, batches, replicas and their starts happen as they do on the real server."""

import numpy as np
import pytest

from autoscaling.contenders import Fixed, Settings, View, make_policy
from autoscaling.outcome import Outcome
from autoscaling.policy import Goals
from autoscaling.simulate import simulate
from autoscaling.starts import Starts
from autoscaling.trace import Trace
from autoscaling.traffic import Served
from headrace.errors import CallerError

SERVED = Served(((1, 0.06), (8, 0.13)), hop_s=0.0)
GOALS = Goals(1, 10, 0.5, 0.75, 20, 30)


def poisson(*parts: tuple[float, float]) -> Trace:
    """(requests a second, seconds), one after the other."""
    rng, start, found = np.random.default_rng(0), 0.0, [np.zeros(1)]
    for rate, seconds in parts:
        found.append(np.sort(rng.uniform(start, start + seconds, rng.poisson(rate * seconds))))
        start += seconds
    return Trace(np.concatenate([*found, [start]]))


def fixed(trace: Trace, served: Served = SERVED, count: int = 1) -> Outcome:
    return simulate(trace, served, Starts(), GOALS, Fixed(count))


def by(text: str, trace: Trace, served: Served = SERVED, goals: Goals = GOALS, **starts: object) -> Outcome:
    made = make_policy(text, Settings(goals, served.cost(), 3.0))
    return simulate(trace, served, Starts((3.0,), **starts), goals, made)  # type: ignore[arg-type]


class Told:
    """A policy that asks for what it is told, from these moments on."""

    def __init__(self, *steps: tuple[float, int]) -> None:
        self._steps = steps

    def replicas(self, view: View) -> int:
        return next(count for at, count in reversed(self._steps) if at <= view.now)


def test_a_lone_request_takes_its_batch() -> None:
    assert fixed(Trace(np.array([0.0, 1.0]))).latency == pytest.approx([0.06, 0.06])


def test_what_comes_while_the_engine_is_busy_shares_the_next_batch() -> None:
    latency = fixed(Trace(np.array([0.0, 0.01, 0.02, 0.03]))).latency
    assert latency[0] == pytest.approx(0.06)
    # The second travels at once and waits in the replica; the others wait for a call.
    assert latency[1] == pytest.approx(0.06 + 0.06 - 0.01)
    assert latency[2] == latency[3] + 0.01


def test_a_large_request_runs_in_parts() -> None:
    assert fixed(Trace(np.array([0.0]), np.array([20]))).latency == pytest.approx([2 * 0.13 + 0.09])


def test_permits_run_batches_side_by_side() -> None:
    both = Served(((1, 0.06), (8, 0.13)), permits=2, hop_s=0.0)
    assert fixed(Trace(np.array([0.0, 0.0])), both).latency == pytest.approx([0.06, 0.06])


def test_a_replica_does_as_much_as_full_batches_allow() -> None:
    outcome = fixed(poisson((100, 20)))
    rate = len(outcome.latency) / len(outcome.seconds)
    assert rate == pytest.approx(8 / 0.13, rel=0.06)
    assert outcome.utilization > 0.97


def test_three_replicas_do_three_times_as_much() -> None:
    one, three = fixed(poisson((100, 20))), fixed(poisson((300, 20)), count=3)
    assert len(one.seconds) == pytest.approx(len(three.seconds), rel=0.1)
    assert three.utilization > 0.97


def test_what_is_not_wanted_is_counted() -> None:
    crowd = Trace(np.zeros(500))
    outcome = fixed(crowd, Served(((1, 0.06), (8, 0.13)), max_queue=100, hop_s=0.0))
    assert outcome.refused == 400
    assert outcome.misses == 400 + int((outcome.latency > 0.5).sum())


def test_nothing_is_answered_after_its_timeout() -> None:
    outcome = fixed(poisson((200, 10)), Served(((1, 0.06), (8, 0.13)), timeout_s=0.8, hop_s=0.0))
    assert np.nanmax(outcome.latency) <= 0.8
    answered = len(outcome.latency) - outcome.refused
    assert answered > 0.8 * 10 * 8 / 0.13  # and most of the capacity is not wasted


def test_all_that_stop_are_gone_after_a_while() -> None:
    steps = [(10.0 * number, 1 + 4 * (number % 2)) for number in range(30)]
    outcome = simulate(
        Trace(np.array([0.0, 310.0])), SERVED, Starts((0.7,), stop_s=1.2097), GOALS, Told(*steps)
    )
    assert {second.stopping for second in outcome.seconds[5::10]} == {0}


def test_replicas_count_from_being_asked_for_to_being_gone() -> None:
    trace = Trace(np.array([0.0, 60.0]))
    outcome = simulate(trace, SERVED, Starts((5.0,), stop_s=2.0), GOALS, Told((0.0, 1), (10.0, 3), (30.0, 1)))
    assert outcome.replica_s == pytest.approx(60 + 2 * (30 - 10 + 2), abs=0.3)
    assert outcome.running_s == pytest.approx(60 + 2 * (30 - 15), abs=0.3)
    assert outcome.targets == [1, 3, 1]
    assert (outcome.changes, outcome.reversals) == (2, 1)
    assert [outcome.seconds[at].starting for at in (9, 12, 20)] == [0, 2, 0]
    assert [outcome.seconds[at].stopping for at in (29, 31, 40)] == [0, 2, 0]


def test_a_replica_that_is_told_to_stop_finishes_what_it_holds() -> None:
    slow = Served(((1, 8.0),), max_batch=1, hop_s=0.0)
    outcome = simulate(
        Trace(np.array([0.0, 0.0, 20.0])), slow, Starts(stop_s=1.0), GOALS, Told((0.0, 2), (7.0, 1))
    )
    assert outcome.refused == 0


def test_a_start_that_is_given_up_answers_nothing() -> None:
    outcome = simulate(
        Trace(np.array([0.0, 30.0])), SERVED, Starts((5.0,)), GOALS, Told((0.0, 1), (1.0, 4), (2.0, 1))
    )
    assert outcome.most_replicas == 1
    assert outcome.replica_s == pytest.approx(30 + 3, abs=0.3)


def test_a_version_that_sleeps_is_woken_by_a_call() -> None:
    goals = Goals(0, 10, 0.5, 0.75, 10, 20)
    outcome = by("headrace", Trace(np.array([0.0, 1.0, 60.0])), goals=goals)
    assert outcome.latency[2] == pytest.approx(3.06, abs=0.2)
    assert outcome.targets == [1, 0, 1]


def test_a_step_is_met_within_seconds_and_left_after_a_while() -> None:
    outcome = by("headrace", poisson((20, 30), (240, 60), (20, 60)))
    running = [second.running for second in outcome.seconds]
    assert running[29] == 1
    assert running[36] >= 4
    assert running[-1] == 1
    late = [second.p99_s for second in outcome.seconds[45:88]]
    assert max(late) < 0.6


def test_few_cores_make_starts_longer() -> None:
    trace = poisson((20, 30), (300, 60))
    apart, together = by("headrace", trace), by("headrace", trace, cores=1.0)
    assert together.misses > 1.5 * apart.misses


def test_serve_as_it_comes_misses_more_and_ours_costs_no_more() -> None:
    trace = poisson((20, 60), (240, 120), (20, 120))
    ours, serves = by("headrace", trace), by("serve", trace)
    assert serves.misses > 3 * ours.misses
    assert ours.replica_s < 1.1 * serves.replica_s


def test_the_same_seed_says_the_same_and_all_is_told_by_second() -> None:
    trace = poisson((100, 20))
    one, other = by("headrace", trace), by("headrace", trace)
    assert np.array_equal(one.latency, other.latency, equal_nan=True)
    assert one.figures() == other.figures()
    assert sum(second.arrivals for second in one.seconds) == len(trace.times)


def test_batches_are_read_off_the_measured_ones() -> None:
    served = Served(((1, 0.1), (4, 0.2), (8, 0.6)), max_batch=16)
    assert served.seconds(2) == pytest.approx(0.1 + 0.1 / 3)
    assert served.seconds(6) == pytest.approx(0.4)
    base_s, row_s = served.line()
    assert served.seconds(16) == pytest.approx(base_s + 16 * row_s)
    assert Served(((4, 0.2),)).line() == (0.0, 0.05)


@pytest.mark.parametrize("batches", [(), ((0, 0.1),), ((1, 0.0),)])
def test_batches_that_cannot_be_are_refused(batches: tuple[tuple[int, float], ...]) -> None:
    with pytest.raises(CallerError, match="at least 1 row"):
        Served(batches)
