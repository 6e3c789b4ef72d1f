import pytest

from headrace.errors import EngineFailed, Overloaded, TensorRejected
from headrace.requests import Ran, Timings
from rollout.evidence import Slot, merge_into, together, windows
from rollout.noted import Noted

COMPUTED = Ran({}, Timings(queued_s=0.002, ran_s=0.008, batch_rows=4, tier="miss"))


def test_a_computed_answer_counts_with_its_latency_and_its_part_of_the_engines_time():
    noted = Noted()
    noted.answered("m", "1", 100.2, 0.02, COMPUTED, 1)
    slot = noted.since("m", 0)[100]["1"]
    assert (slot.requests, slot.errors, slot.hits) == (1, 0, 0)
    assert slot.latency.quantile(0.5) == pytest.approx(0.02, rel=0.01)
    assert slot.inner.quantile(0.5) == pytest.approx(0.01, rel=0.01)
    assert slot.engine_s == pytest.approx(0.002)


def test_a_remembered_answer_has_no_latency_since_a_new_versions_cache_is_cold():
    noted = Noted()
    noted.answered("m", "1", 100.2, 0.0001, Ran({}, Timings(tier="memory", saved_s=1.0)), 1)
    slot = noted.since("m", 0)[100]["1"]
    assert (slot.requests, slot.hits, slot.latency.count) == (1, 1, 0)


def test_a_callers_own_mistake_is_no_error_of_the_version():
    noted = Noted()
    for err in (TensorRejected("wrong"), EngineFailed("broken"), Overloaded("full")):
        noted.failed("m", "1", 100.0, err)
    slot = noted.since("m", 0)[100]["1"]
    assert (slot.requests, slot.errors) == (3, 2)


def test_only_the_last_seconds_are_kept():
    noted = Noted(kept_s=10)
    for second in range(100):
        noted.failed("m", "1", float(second), EngineFailed("broken"))
    assert sorted(noted.since("m", 0)) == list(range(89, 100))
    assert sorted(noted.since("m", 97)) == [97, 98, 99]
    assert noted.since("unknown", 0) == {}


def test_slots_of_several_gateways_add_up_by_second():
    first, second = Noted(), Noted()
    for noted in (first, second):
        noted.answered("m", "1", 100.0, 0.02, COMPUTED, 1)
        noted.judged("m", "2", 101.0, 0.5)
    merged = {}
    for noted in (first, second):
        merge_into(merged, noted.since("m", 0))
    assert merged[100]["1"].requests == 2
    assert merged[100]["1"].latency.count == 2
    assert (merged[101]["2"].judged, merged[101]["2"].right) == (2, 1.0)
    assert first.since("m", 0)[100]["1"].requests == 1  # what was merged is left alone


def test_windows_are_whole_seconds_of_the_step():
    noted = Noted()
    for second in range(100, 106):
        noted.failed("m", "1", float(second), EngineFailed("broken"))
    noted.failed("m", "2", 103.0, EngineFailed("broken"))
    found = windows(noted.since("m", 0), "1", "2", since=101.5, until=104.9)
    assert [(window.stable.requests, window.candidate.requests) for window in found] == [(1, 0), (1, 1)]
    assert together(window.stable for window in found) == Slot(requests=2, errors=2)
