from __future__ import annotations

import pytest

from monitoring.recorder import Seconds
from monitoring.stages import Spent

NAMED = ("m", "1")
SPENT: Spent = (0.001, 0.002, 0.003, 0.004, 0.0, 0.005, 0.006)


def test_a_second_is_told_once_it_is_over() -> None:
    seconds = Seconds()
    seconds.tick(100.0)
    seconds.answered(NAMED, "miss", 2, 0.0, SPENT, 0.021)
    seconds.answered(NAMED, "memory", 1, 0.5, SPENT, 0.021)
    assert seconds.since(0, 100.9) == {}
    (slot,) = seconds.since(0, 101.0).values()
    answers = slot.answers[NAMED]
    assert (answers.count, answers.rows, answers.saved_s) == (2, 3, 0.5)
    assert answers.tiers == {"miss": 1, "memory": 1}
    assert answers.spent_s == pytest.approx([2 * spent for spent in SPENT])
    assert answers.latency.quantile(0.5) == pytest.approx(0.021, rel=0.01)


def test_a_stage_that_was_left_out_has_no_percentiles() -> None:
    seconds = Seconds()
    seconds.tick(100.0)
    seconds.answered(NAMED, "miss", 1, 0.0, SPENT, 0.021)
    (slot,) = seconds.since(0, 101.0).values()
    assert [sketch.count for sketch in slot.answers[NAMED].stages] == [1, 1, 1, 1, 0, 1, 1]


def test_only_the_last_seconds_are_kept() -> None:
    seconds = Seconds(kept_s=3)
    for now in range(100, 120):
        seconds.tick(now)
        seconds.failed(NAMED, "overloaded")
    assert sorted(seconds.since(0, 120.0)) == [117, 118, 119]
    assert sorted(seconds.since(118, 120.0)) == [118, 119]


def test_answers_do_not_pile_up_when_nobody_counts_them() -> None:
    seconds = Seconds()
    seconds.tick(100.0)
    for _ in range(10_000):
        seconds.answered(NAMED, "off", 1, 0.0, SPENT, 0.021)
    assert len(seconds._pending) < 5000
    assert seconds.since(0, 101.0)[100].answers[NAMED].count == 10_000


def test_batches_are_summed_by_group() -> None:
    seconds = Seconds()
    seconds.tick(100.0)
    for _ in range(2):
        seconds.ran((*NAMED, "length<=8"), 4, 20, 32, 0.01, 0.002)
    (batches,) = seconds.since(0, 101.0)[100].batches.values()
    assert (batches.count, batches.rows, batches.useful, batches.elements) == (2, 8, 40, 64)
    assert (batches.engine_s, batches.wait_s) == pytest.approx((0.02, 0.004))


def test_judged_and_compared_answers_are_told() -> None:
    seconds = Seconds()
    seconds.tick(100.0)
    seconds.judged(NAMED, 0.5)
    seconds.compared(NAMED, True, 0.25)
    seconds.compared(NAMED, False, 0.0)
    quality = seconds.since(0, 101.0)[100].quality[NAMED]
    assert (quality.judged, quality.right) == (1, 0.5)
    assert (quality.compared, quality.differing, quality.flipped) == (2, 1, 0.25)
