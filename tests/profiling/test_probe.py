"""Requests and batches with their times."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from profiling.probe import Probe


class Ticks:
    """A clock that is told how late it is."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Noted:
    """Ranges as a list of what was entered and left."""

    def __init__(self) -> None:
        self.told: list[str] = []

    @contextmanager
    def within(self, name: str) -> Iterator[None]:
        self.told.append(f"+{name}")
        yield
        self.told.append(f"-{name}")

    def across(self, name: str) -> AbstractContextManager[object]:
        return self.within(name)


def answered(probe: Probe, clock: Ticks, seconds: float) -> None:
    with probe.request():
        clock.now += seconds


def test_latencies_and_batches_are_told_in_a_few_figures() -> None:
    clock = Ticks()
    probe = Probe(clock=clock)
    for ms in range(1, 101):
        answered(probe, clock, ms / 1000)
    probe.batch(8, 0.5, 0.010)
    probe.batch(4, 1.0, 0.020)
    traffic = probe.traffic(5.05)
    assert (traffic.requests, traffic.failed, traffic.batches, traffic.rows) == (100, 0, 2, 12)
    assert traffic.p50_s == pytest.approx(0.0505)
    assert traffic.p99_s == pytest.approx(0.099, rel=0.01)
    assert (traffic.fill, traffic.batch_s) == (pytest.approx(0.75), pytest.approx(0.015))


def test_a_request_that_fails_is_counted_as_one() -> None:
    probe = Probe()
    with pytest.raises(ValueError, match="no"), probe.request():
        raise ValueError("no")
    assert (probe.traffic(1.0).requests, probe.traffic(1.0).failed) == (0, 1)


def test_nothing_asked_has_no_latency() -> None:
    traffic = Probe().traffic(1.0)
    assert (traffic.requests, traffic.p50_s, traffic.fill) == (0, None, None)
    assert Probe().timeline(1.0)[0]["p99_s"] is None


def test_a_timeline_has_a_point_each_half_second() -> None:
    clock = Ticks()
    probe = Probe(clock=clock)
    for _ in range(20):
        answered(probe, clock, 0.1)
    points = probe.timeline(2.0)
    assert [point["at_s"] for point in points] == [0.5, 1.0, 1.5, 2.0]
    assert sum(point["requests_per_s"] or 0 for point in points) * 0.5 == pytest.approx(20, abs=1)
    assert points[1]["p50_s"] == pytest.approx(0.1)


def test_a_long_profile_has_no_more_than_sixty_points() -> None:
    assert len(Probe().timeline(600.0)) == 60


def test_a_function_is_marked_only_where_ranges_are_wanted() -> None:
    assert Probe().mark("engine", abs) is abs
    ranges = Noted()
    probe = Probe(ranges)
    assert probe.mark("engine", abs)(-3) == 3
    with probe.request():
        ranges.told.append("asked")
    assert ranges.told == ["+engine", "-engine", "+request", "asked", "-request"]
