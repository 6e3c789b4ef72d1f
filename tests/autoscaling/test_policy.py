"""Replicas by work: up at once, down slowly, and as it is when nobody knows."""

import math
import random
from dataclasses import replace
from itertools import pairwise

import pytest

from autoscaling.policy import STALE_S, Decision, Demand, Goals, Memory, decide, needed

GOALS = Goals(
    min_replicas=1, max_replicas=10, objective_s=0.5, utilization=0.75, down_after_s=60, sleep_after_s=300
)
START_S = 4.0


class Scaled:
    """A model whose replicas start in no time, asked again and again."""

    def __init__(self, goals: Goals = GOALS, replicas: int = 1, now: float = 1000.0) -> None:
        self.goals = goals
        self.now = now
        self.running = self.target = replicas
        self.memory = Memory()
        self.history = [replicas]

    def sees(
        self, offered: float, backlog_s: float = 0.0, oldest_s: float = 0.0, age_s: float = 0.0
    ) -> Decision:
        demand = Demand(self.now - age_s, offered, backlog_s, oldest_s)
        return self.decides(demand)

    def decides(self, demand: Demand | None) -> Decision:
        found = decide(self.now, self.running, self.target, demand, self.goals, self.memory, START_S)
        self.memory = found.memory
        if found.replicas != self.target:
            self.history.append(found.replicas)
        self.target = self.running = found.replicas
        return found

    def waits(self, seconds: float) -> None:
        self.now += seconds


def test_more_work_is_met_at_once() -> None:
    model = Scaled()
    assert model.sees(0.6).replicas == 1
    model.waits(0.5)
    found = model.sees(4.0)
    assert found.replicas == 7  # 6 keep up; what queues while they start is worked off in as long
    assert found.why == "more work"


def test_a_replica_is_kept_busy_for_no_more_than_its_share_of_the_time() -> None:
    model = Scaled()
    assert model.sees(0.74).replicas == 1
    assert model.sees(0.76).replicas == 2


def test_what_the_running_ones_work_off_while_others_would_start_needs_no_others() -> None:
    model = Scaled(replicas=4)
    assert model.sees(2.0, backlog_s=8.0).replicas == 4  # 2 s of work each second are left over, for 4 s
    assert model.sees(2.0, backlog_s=40.0).replicas == 10


def test_what_has_been_asked_for_is_not_asked_for_again() -> None:
    """The backlog that grows while replicas start was counted on."""
    goals = replace(GOALS, max_replicas=100)
    first = needed(Demand(0.0, 8.0, 0.0, 0.0), 1, 0, 0.0, START_S, goals)
    for since in (1.0, 2.0, 3.0):
        later = needed(Demand(0.0, 8.0, 7.0 * since, since), 1, first - 1, since, START_S, goals)
        assert later <= first


def test_on_few_cores_only_some_start_at_a_time() -> None:
    goals = replace(GOALS, starts_at_once=2)
    found = decide(10.0, 1, 1, Demand(10.0, 4.0, 0.0, 0.0), goals, Memory(asked=1), START_S)
    assert found.replicas == 3
    found = decide(11.0, 1, 3, Demand(11.0, 4.0, 0.0, 0.0), goals, found.memory, START_S)
    assert found.replicas == 3
    found = decide(12.0, 2, 3, Demand(12.0, 4.0, 0.0, 0.0), goals, found.memory, START_S)
    assert found.replicas == 4


def test_bounds_hold() -> None:
    model = Scaled(replace(GOALS, min_replicas=3), replicas=3)
    assert model.sees(1000.0).replicas == 10
    model.waits(30)
    model.sees(0.1)
    model.waits(61)
    model.sees(0.1)
    model.waits(61)
    assert model.sees(0.1).replicas == 3


def test_fewer_only_after_fewer_have_sufficed_for_long() -> None:
    model = Scaled()
    model.sees(4.0)
    for _ in range(59):
        model.waits(1)
        assert model.sees(0.1).replicas == 7
    model.waits(2)
    assert model.sees(1.4).replicas == 2


def test_a_burst_within_the_time_counts() -> None:
    model = Scaled()
    model.sees(4.0)
    model.waits(40)
    model.sees(2.9)
    model.waits(30)
    assert model.sees(0.1).replicas == 4
    model.waits(61)
    assert model.sees(0.1).replicas == 1


@pytest.mark.parametrize("held_s", [0.5, 5.0])
def test_noise_of_a_fifth_turns_it_around_twice_at_most_in_five_minutes(held_s: float) -> None:
    for seed in range(20):
        chance = random.Random(seed)
        model = Scaled(replace(GOALS, max_replicas=1000), replicas=30)
        offered = 0.0
        for tick in range(600):
            if tick % (held_s / 0.5) == 0:
                offered = 20 * chance.uniform(0.8, 1.2)
            model.sees(offered, backlog_s=0.1 * offered)
            model.waits(0.5)
        steps = [after - before for before, after in pairwise(model.history)]
        turns = sum(one * other < 0 for one, other in pairwise(steps))
        assert turns <= 2, model.history


def test_a_cycle_of_the_day_is_followed_without_flapping() -> None:
    model = Scaled(replace(GOALS, max_replicas=1000), replicas=20)
    for second in range(0, 86_400, 10):
        model.sees(10 + 8 * math.sin(second / 86_400 * 2 * math.pi))
        model.waits(10)
    steps = [after - before for before, after in pairwise(model.history)]
    turns = sum(one * other < 0 for one, other in pairwise(steps))
    assert max(model.history) == 24
    assert turns <= 4


def test_without_fresh_reports_all_stays_as_it_is() -> None:
    model = Scaled(replicas=3)
    assert model.decides(None).replicas == 3
    assert model.sees(9.0, age_s=STALE_S + 0.1).replicas == 3
    model.waits(100)
    assert model.sees(0.1).replicas == 3  # what happened meanwhile is not known
    model.waits(61)
    assert model.sees(0.1).replicas == 1


def test_requests_that_wait_too_long_bring_one_more_for_each_start() -> None:
    """What they take is more than was expected, so that the sum of the work says nothing."""
    model = Scaled(replicas=2)
    assert model.sees(0.1, oldest_s=0.6).replicas == 3
    model.running = 2
    model.waits(START_S - 1)
    assert model.sees(0.1, oldest_s=0.6).replicas == 3
    model.waits(1)
    assert model.sees(0.1, oldest_s=0.6).replicas == 4


def test_it_sleeps_when_nobody_asked_for_long_and_wakes_at_once() -> None:
    model = Scaled(replace(GOALS, min_replicas=0), replicas=2)
    model.sees(0.5)
    for _ in range(29):
        model.waits(10)
        model.sees(0.0)
    assert model.history == [2, 1]
    model.waits(10)
    assert model.sees(0.0).replicas == 0
    model.waits(100)
    assert model.sees(0.0).replicas == 0
    assert model.sees(0.0, backlog_s=0.1).replicas == 1


def test_it_does_not_sleep_while_a_request_waits_for_its_start() -> None:
    goals = replace(GOALS, min_replicas=0, sleep_after_s=5)
    memory = Memory(since=0.0, busy_at=90.0, asked=1)
    waits = Demand(100.0, 0.0, 0.0, 0.0, held=1)
    found = decide(100.0, 0, 1, waits, goals, memory, START_S)
    assert found.replicas == 1
    found = decide(101.0, 1, 1, replace(waits, at=101.0, held=0), goals, found.memory, START_S)
    assert found.replicas == 1  # it has only just been of use


def test_it_does_not_sleep_where_one_is_to_be_there() -> None:
    model = Scaled()
    for _ in range(100):
        model.waits(10)
        assert model.sees(0.0).replicas == 1


def test_what_a_start_takes_is_measured() -> None:
    model = Scaled()
    model.sees(4.0)
    model.running = 1
    for _ in range(7):
        model.waits(1)
        found = decide(
            model.now, 1, model.target, Demand(model.now, 4.0, 0.0, 0.0), GOALS, model.memory, START_S
        )
        model.memory = found.memory
    assert model.memory.is_starting
    found = decide(
        model.now, model.target, model.target, Demand(model.now, 4.0, 0.0, 0.0), GOALS, model.memory, START_S
    )
    assert found.memory.start_s == pytest.approx(7.0)


def test_serve_waking_it_counts_as_a_start() -> None:
    found = decide(50.0, 0, 1, Demand(50.0, 0.1, 0.1, 0.1), GOALS, Memory(asked=0), START_S)
    assert found.memory.is_starting
    found = decide(57.0, 1, 1, Demand(57.0, 0.1, 0.1, 0.1), GOALS, found.memory, START_S)
    assert found.memory.start_s == pytest.approx(7.0)
