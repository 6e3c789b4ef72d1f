"""Whole rollouts: good versions get through, bad ones go back early, wrong answers reach no caller."""

import statistics

import pytest

from rollout.plan import Plan
from rollout.rehearse import Behaviour, Conditions, rehearse

PLAN = Plan(steps=(5, 25, 50, 100))
SHADOWED = Plan(
    steps=(5, 25, 50, 100),
    shadow=20,
    guards=("p50<=1.2x", "p99<=1.2x", "errors<=+0.5%", "drift<=0.01"),
)
CALM = Conditions(utilization=0.2, shared_stall_every_s=0, outages_every_s=0, before_s=120)
STEADY = Behaviour(stall_every_s=0)
RUNS = 100


@pytest.fixture(scope="module")
def identical():
    return [rehearse(SHADOWED, seed, look_s=15) for seed in range(RUNS)]


def test_identical_versions_are_rolled_back_at_most_once_in_100(identical):
    """With pauses of either and of both, outages, and a load and queues that change."""
    assert sum(found.ended == "rolled back" for found in identical) <= 1


def test_identical_versions_get_through_in_little_more_than_the_shortest_time(identical):
    shortest_s = SHADOWED.interval_s * (len(SHADOWED.steps) + 1) + SHADOWED.soak_s
    times = [found.took_s for found in identical if found.ended == "promoted"]
    assert len(times) >= RUNS - 3
    assert statistics.median(times) <= 1.5 * shortest_s


def test_the_same_seed_is_the_same_rollout():
    assert rehearse(PLAN, 7, look_s=15) == rehearse(PLAN, 7, look_s=15)


@pytest.mark.parametrize(
    "bad",
    [Behaviour(errors=0.05), Behaviour(median_s=0.04, stall_every_s=0)],
    ids=["errors", "slow"],
)
def test_bad_versions_go_back_within_30_seconds_of_their_sample(bad):
    for seed in range(5):
        found = rehearse(PLAN, seed, bad, STEADY, CALM)
        assert found.ended == "rolled back", found
        assert found.step == 0
        assert found.seen <= PLAN.min_sample + 30 * 0.05 * CALM.load * 1.3


def test_versions_that_pause_again_and_again_go_back():
    for seed in range(5):
        found = rehearse(PLAN, seed, Behaviour(stall_every_s=8), STEADY, CALM, look_s=5)
        assert found.ended == "rolled back", found
        assert "p99" in found.last.why


def test_wrong_answers_are_found_before_any_caller_gets_one():
    for seed in range(20):
        found = rehearse(SHADOWED, seed, Behaviour(flips=0.03), look_s=5)
        assert (found.ended, found.phase, found.exposed) == ("rolled back", "shadow", 0)


def test_a_rollout_without_an_end_counts_as_held():
    endless = rehearse(Plan(min_sample=10**6), 1, conditions=Conditions(most_s=30, load=5))
    assert endless.ended == "held"
    assert endless.took_s == 30
