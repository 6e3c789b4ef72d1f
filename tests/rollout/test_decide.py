"""A step goes on when enough was seen and every guard holds, and back when one is violated beyond chance."""

import math

import numpy as np
import pytest

from headrace.sketch import Sketch
from rollout.decide import decide, needed_evidence
from rollout.evidence import Evidence, Slot, Window
from rollout.plan import FALSE_ALARMS, Plan

LATENCY = ("p50<=1.2x", "p99<=1.2x")
EVERYTHING = (*LATENCY, "errors<=+0.5%", "drift<=0.01", "accuracy>=-2%")


class Traffic:
    """Seconds of two versions, the same for the same seed."""

    def __init__(self, seed=1):
        self.random = np.random.default_rng(seed)

    def slot(self, rps, slower=1.0, errors=0.0, copies=0, drift=0.0, judged=0.0, accuracy=0.9, median_s=0.05):
        requests = int(self.random.poisson(rps))
        bad = int(self.random.binomial(requests, errors))
        latency = Sketch()
        for value in slower * median_s * np.exp(0.5 * self.random.standard_normal(requests - bad)):
            latency.add(float(value))
        truths = int(self.random.binomial(requests, judged))
        compared = int(self.random.poisson(copies))
        return Slot(
            requests=requests,
            errors=bad,
            latency=latency,
            inner=latency,
            copies=compared,
            compared=compared,
            differing=int(self.random.binomial(compared, drift)),
            judged=truths,
            right=float(self.random.binomial(truths, accuracy)),
        )

    def before(self, rps=100, seconds=60, **stable):
        return tuple(self.slot(rps, **stable) for _ in range(seconds))

    def step(self, seconds, stable_rps, candidate_rps, stable=None, **candidate):
        return [
            Window(self.slot(stable_rps, **(stable or {})), self.slot(candidate_rps, **candidate))
            for _ in range(seconds)
        ]


def decided(plan, phase, rows, before=(), elapsed_s=None, is_mixed=False):
    seconds = len(rows) if elapsed_s is None else elapsed_s
    return decide(plan, phase, Evidence(seconds, tuple(rows), tuple(before), is_mixed))


def states(found):
    return {reading.guard: reading.state for reading in found.readings}


def rolled_back_after(plan, phase, stable_rps, candidate_rps, runs=15, most_s=300, **candidate):
    """The median, over runs, of the requests or copies that were needed."""
    counts = []
    for seed in range(runs):
        traffic = Traffic(seed)
        before = traffic.before(stable_rps + candidate_rps)
        rows = []
        while len(rows) < most_s:
            rows += traffic.step(1, stable_rps, candidate_rps, **candidate)
            if decided(plan, phase, rows, before, elapsed_s=1).action == "roll_back":
                break
        counts.append(sum(row.candidate.requests + row.candidate.compared for row in rows))
    return float(np.median(counts))


def test_a_good_version_goes_on_after_the_interval():
    traffic = Traffic()
    before = traffic.before()
    rows = traffic.step(30, 90, 10)
    assert decided(Plan(), "canary", rows[:29], before).action == "hold"
    found = decided(Plan(), "canary", rows, before)
    assert found.action == "advance"
    assert set(states(found).values()) == {"ok"}


def test_no_step_ends_before_its_sample():
    traffic = Traffic()
    found = decided(Plan(), "canary", traffic.step(60, 99, 1), traffic.before())
    assert found.action == "hold"
    assert "of 200 requests were seen" in found.why


def test_a_bad_version_goes_back_before_the_interval_and_the_sample():
    traffic = Traffic()
    rows = traffic.step(10, 90, 10, errors=1.0)
    found = decided(Plan(min_sample=10_000), "canary", rows, traffic.before())
    assert found.action == "roll_back"
    assert "errors is 100%" in found.why
    assert "beyond chance" in found.why


@pytest.mark.parametrize("rps", [5, 10])
def test_5_percent_errors_are_found_by_about_200_requests(rps):
    assert rolled_back_after(Plan(), "canary", 9 * rps, rps, errors=0.05) <= 250


def test_a_version_twice_as_slow_is_found_by_about_100_requests_where_they_are_few():
    assert rolled_back_after(Plan(), "canary", 45, 5, slower=2.0) <= 130


def test_a_version_twice_as_slow_is_found_within_25_seconds_where_they_are_many():
    assert rolled_back_after(Plan(), "canary", 90, 10, slower=2.0) <= 250


def test_3_percent_of_wrong_answers_are_found_by_about_700_copies():
    plan = Plan(shadow=20, guards=("errors<=+0.5%", "drift<=0.01"))
    assert rolled_back_after(plan, "shadow", 50, 0, copies=10, drift=0.03) <= 800


def test_an_excess_that_may_be_chance_holds_and_says_so():
    traffic = Traffic()
    rows = traffic.step(30, 90, 10)
    rows[3].candidate.errors = 4
    found = decided(Plan(), "canary", rows, traffic.before())
    assert states(found)["errors<=+0.5%"] == "unsure"
    assert found.action == "hold"
    assert "may still be chance" in found.why
    assert "1,800 needed" in found.why


def test_an_outage_of_both_versions_is_no_versions_fault():
    traffic = Traffic()
    rows = traffic.step(20, 90, 10) + traffic.step(5, 90, 10, {"errors": 0.5}, errors=0.5)
    rows += traffic.step(20, 90, 10)
    alone = traffic.step(20, 90, 10) + traffic.step(5, 90, 10, errors=0.5) + traffic.step(20, 90, 10)
    before = traffic.before()
    assert decided(Plan(), "canary", rows, before).action != "roll_back"
    for guards in (("errors<=1%",), ("errors<=+0%",)):
        assert decided(Plan(guards=guards), "canary", rows, before).action != "roll_back"
    assert decided(Plan(guards=("errors<=+0%",)), "canary", alone, before).action == "roll_back"


def test_a_pause_of_both_versions_is_no_versions_fault():
    traffic = Traffic()
    slow = {"slower": 30.0}
    rows = traffic.step(20, 50, 50) + traffic.step(4, 50, 50, slow, **slow) + traffic.step(20, 50, 50)
    assert decided(Plan(), "canary", rows, traffic.before()).action == "advance"


def test_one_pause_of_the_candidate_is_not_rolled_back():
    traffic = Traffic()
    rows = traffic.step(10, 90, 10) + traffic.step(2, 90, 10, slower=30.0) + traffic.step(18, 90, 10)
    found = decided(Plan(), "canary", rows, traffic.before(seconds=300))
    assert found.action == "hold"


def test_pauses_are_waited_out_if_the_stable_version_may_have_as_many():
    traffic = Traffic()
    pause = traffic.step(2, 50, 50, slower=30.0)
    rows = traffic.step(30, 50, 50) + pause + traffic.step(118, 50, 50)
    assert decided(Plan(), "canary", rows, traffic.before(seconds=300)).action == "advance"


def test_a_candidate_that_pauses_again_and_again_goes_back():
    traffic = Traffic()
    rows = []
    for _ in range(16):
        rows += traffic.step(8, 50, 50) + traffic.step(2, 50, 50, slower=30.0)
    found = decided(Plan(), "canary", rows, traffic.before())
    assert found.action == "roll_back"
    assert "p99" in found.why


def test_the_longer_queue_of_the_whole_load_is_no_fault_of_the_version_at_100_percent():
    traffic = Traffic()
    before = traffic.before(100, slower=1.5)
    rows = traffic.step(60, 0, 100, slower=1.5)
    assert decided(Plan(), "canary", rows, before).action == "advance"


def test_what_comes_of_more_load_than_the_stable_version_had_is_no_evidence():
    """Twice the load at 100%: nobody knows what the stable version would make of it."""
    traffic = Traffic()
    before = traffic.before(50)
    rows = traffic.step(60, 0, 100, slower=1.6)
    assert decided(Plan(guards=LATENCY), "canary", rows, before).action == "hold"
    as_much = traffic.step(60, 0, 50, slower=1.6)
    assert decided(Plan(guards=LATENCY), "canary", as_much, before).action == "roll_back"


def test_versions_that_run_in_different_ways_are_compared_by_what_happens_inside():
    traffic = Traffic()
    rows = traffic.step(40, 90, 10, slower=3.0)
    for row in rows:
        row.candidate.inner = row.stable.inner
    before = traffic.before()
    assert decided(Plan(), "canary", rows, before).action == "roll_back"
    assert decided(Plan(), "canary", rows, before, is_mixed=True).action == "advance"


def test_a_latency_without_anything_to_compare_it_with_waits():
    traffic = Traffic()
    found = decided(Plan(guards=LATENCY), "canary", traffic.step(40, 0, 50))
    assert found.action == "hold"
    assert set(states(found).values()) == {"waiting"}
    assert "of the stable version are known" in found.why


@pytest.mark.parametrize(
    ("guard", "is_met"),
    [("p99<=250ms", True), ("p99<=100ms", False), ("p50<=+20ms", True), ("p50<=+1ms", False)],
)
def test_latencies_in_seconds(guard, is_met):
    traffic = Traffic()
    rows = traffic.step(60, 50, 50, slower=1.2)
    found = decided(Plan(guards=(guard,)), "canary", rows, traffic.before())
    assert found.action == ("advance" if is_met else "roll_back")
    assert not math.isnan(found.readings[0].value)


def test_shadow_reads_copies_and_waits_for_nothing_else():
    traffic = Traffic()
    plan = Plan(guards=EVERYTHING, shadow=20)
    found = decided(plan, "shadow", traffic.step(40, 100, 0, copies=20))
    assert found.action == "advance"
    assert states(found) == {
        "p50<=1.2x": "waiting",
        "p99<=1.2x": "waiting",
        "errors<=+0.5%": "ok",
        "drift<=0.01": "ok",
        "accuracy>=-2%": "waiting",
    }


def test_copies_that_fail_are_errors_of_the_candidate():
    traffic = Traffic()
    rows = traffic.step(40, 100, 0, copies=20)
    for row in rows:
        row.candidate.copy_errors, row.candidate.compared, row.candidate.differing = (
            row.candidate.copies,
            0,
            0,
        )
    assert decided(Plan(shadow=20), "shadow", rows).action == "roll_back"


def test_a_share_of_copies_is_not_known_from_fewer_than_would_show_five():
    traffic = Traffic()
    plan = Plan(guards=("drift<=0.005",), shadow=20)
    found = decided(plan, "shadow", traffic.step(40, 100, 0, copies=10))
    assert found.action == "hold"
    assert "of 1000 compared copies" in found.why


@pytest.mark.parametrize(("guard", "value"), [("top1>=0.99", 0.8), ("cosine>=0.98", 0.9)])
def test_answers_that_agree_too_little_go_back(guard, value):
    traffic = Traffic()
    rows = traffic.step(60, 100, 0, copies=20)
    for row in rows:
        row.candidate.flipped = (1 - value) * row.candidate.compared
        row.candidate.distance = (1 - value) * row.candidate.compared
    found = decided(Plan(guards=(guard,), shadow=20), "shadow", rows)
    assert found.action == "roll_back"
    assert found.readings[0].value == pytest.approx(value)


def test_canary_steps_do_not_wait_for_copies_or_true_answers():
    traffic = Traffic()
    found = decided(Plan(guards=EVERYTHING, shadow=20), "canary", traffic.step(30, 80, 20), traffic.before())
    assert found.action == "advance"
    assert states(found)["drift<=0.01"] == "waiting"
    assert states(found)["accuracy>=-2%"] == "waiting"


def test_true_answers_count_as_they_come():
    traffic = Traffic()
    truths = {"judged": 0.5}
    rows = traffic.step(90, 50, 50, truths, judged=0.5, accuracy=0.6)
    found = decided(Plan(guards=("accuracy>=-2%",)), "canary", rows, traffic.before(judged=0.5))
    assert found.action == "roll_back"
    assert found.readings[0].value == pytest.approx(-0.3, abs=0.05)


def test_the_soak_ends_after_its_own_time():
    traffic = Traffic()
    plan = Plan(interval_s=3600, soak_s=60, min_sample=1_000_000)
    before = traffic.before()
    rows = traffic.step(60, 0, 100)
    assert decided(plan, "soak", rows[:59], before).action == "hold"
    assert decided(plan, "soak", rows, before).action == "advance"


def test_the_soak_ends_without_traffic_too():
    assert decided(Plan(soak_s=60), "soak", [], elapsed_s=60).action == "advance"


def test_a_guard_for_accuracy_keeps_the_soak_until_true_answers_have_come():
    traffic = Traffic()
    plan = Plan(guards=("accuracy>=-2%",), soak_s=60)
    before = traffic.before(judged=0.5)
    found = decided(plan, "soak", traffic.step(60, 0, 100), before)
    assert found.action == "hold"
    assert "no true answers yet" in found.why
    assert decided(plan, "soak", traffic.step(60, 0, 100, judged=0.1), before).action == "advance"


def test_guards_and_steps_share_the_false_alarms():
    plan = Plan(guards=EVERYTHING, shadow=20)
    assert needed_evidence(plan, "shadow") == pytest.approx(7 * 2 / FALSE_ALARMS)
    assert needed_evidence(plan, "canary") == pytest.approx(7 * 5 / FALSE_ALARMS)


def test_nothing_seen_holds():
    found = decided(Plan(), "canary", [], elapsed_s=100)
    assert found.action == "hold"
    assert {reading.value for reading in found.readings} == {None}
