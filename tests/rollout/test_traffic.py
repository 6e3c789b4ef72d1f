"""What counts of a histogram tell, and what they cannot."""

from __future__ import annotations

import math

import pytest

from rollout.traffic import Histogram, Traffic

TEN = Histogram((0.01, 0.1, math.inf), (4.0, 10.0, 10.0))


def test_a_quantile_lies_between_the_edges_of_its_bin() -> None:
    found = TEN.quantile(0.7)
    assert found is not None
    assert (found.low_s, found.high_s) == (0.01, 0.1)
    assert found.value_s == pytest.approx(0.01 + 0.09 * 3 / 6)


def test_a_quantile_of_nothing_is_not_known() -> None:
    assert Histogram().quantile(0.5) is None


def test_beyond_the_last_edge_only_the_edge_is_known() -> None:
    found = Histogram((0.01, math.inf), (0.0, 3.0)).quantile(0.99)
    assert found is not None
    assert found.value_s == 0.01
    assert math.isinf(found.high_s)


def test_only_what_is_above_for_certain_is_counted() -> None:
    assert TEN.least_above(0.01) == 6
    assert TEN.least_above(0.05) == 0  # the six may all be below
    assert TEN.least_above(1.0) == 0


def test_a_callers_mistake_is_no_failure() -> None:
    seen = Traffic(10.0, TEN, {"tensor": 90.0, "not_found": 5.0, "engine": 10.0})
    assert seen.failed == 10
    assert seen.error_share == 0.5


def test_hits_are_what_a_cache_answered_not_what_others_computed() -> None:
    assert Traffic(tiers={"memory": 2.0, "redis": 1.0, "flight": 1.0, "miss": 4.0}).hit_rate == 3 / 8
    assert Traffic().hit_rate is None


def test_without_a_time_there_is_no_rate() -> None:
    seen = Traffic(latency=TEN, engine_s=1.0)
    assert seen.per_s is None
    assert seen.per_month(1.0) is None
    assert seen.busy(2) is None
    assert Traffic(2.0, engine_s=1.0).busy(2) == 0.25
