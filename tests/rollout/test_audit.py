"""What an audit finds, in which order, and what it leaves open."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from headrace.config import ModelConfig
from rollout.audit import as_json, audit
from rollout.audit_versions import is_older
from rollout.facts import Facts, Judged, Memory, Recorded, Upgrade
from rollout.findings import Finding
from rollout.traffic import Histogram
from tests.rollout.audit_samples import everything, facts, manifest, model, traffic, tuned


def only(kind: str, given: Facts) -> Finding:
    (found,) = audit(given).findings
    assert found.kind == kind
    return found


def none(given: Facts) -> bool:
    return not audit(given).findings


def test_a_version_of_this_machine_that_is_well_asks_for_nothing() -> None:
    found = audit(facts(model(lately=traffic(), so_far=traffic(), processes=1)))
    assert found.findings == ()
    assert found.unknown == ()
    assert found.exit_code == 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("avx2", "avx512_vnni", "amx_int8"), "had amx_int8, which this machine lacks"),
        (("avx2",), "without avx512_vnni, which this machine has"),
    ],
)
def test_a_version_of_another_cpu_is_to_be_made_again_with_its_recipe_and_goals(
    flags: tuple[str, ...], words: str
) -> None:
    command = "headrace optimize examples/m.py --out models/m --goal max_drop=0.01 --goal min_speedup=2"
    found = only("hardware", facts(model(manifest=manifest(cpu_flags=flags), command=command)))
    assert words in found.found
    assert found.command == (
        "headrace reoptimize m --recipe examples/m.py --repository models --goal max_drop=0.01 "
        "--goal min_speedup=2"
    )
    assert (found.gain.unit, found.gain.value) == ("unknown", None)


def test_a_graph_as_it_was_given_is_of_no_machine() -> None:
    plain = manifest("1", precision="fp32", parent=None, engine="python", cpu_flags=("sve",))
    assert none(facts(model(manifest=plain)))


def test_tuned_for_other_cores_gains_what_tuning_gained_there() -> None:
    was = manifest(tuned=tuned(2, rows_per_s=150.0, default_rows_per_s=100.0))
    found = only("cores", facts(model(manifest=was)))
    assert found.command == "headrace tune m/2 --config serve.yaml"
    assert (found.gain.unit, found.gain.value, found.gain.sure) == ("times_as_fast", 1.5, "estimated")
    assert none(facts(model(manifest=manifest(tuned=tuned(4)))))


@pytest.mark.parametrize(
    ("built", "command"),
    [
        ("1.31", "headrace tune m/2 --config serve.yaml"),
        ("1.33.0", "pip install onnxruntime==1.33.0"),
    ],
)
def test_another_version_of_the_library_is_told(built: str, command: str) -> None:
    assert only("library", facts(model(manifest=manifest(engine_version=built)))).command == command


@pytest.mark.parametrize("built", ["1.32.1", "1.32.1.dev3", "unknown"])
def test_the_same_library_or_one_that_nobody_knows_is_none_of_the_two(built: str) -> None:
    assert none(facts(model(manifest=manifest(engine_version=built))))


@pytest.mark.parametrize(
    ("one", "other", "is_so"),
    [("1.9", "1.10", True), ("1.32", "1.32.0", False), ("2", "1.99", False), ("", "1", False)],
)
def test_versions_are_compared_by_their_numbers(one: str, other: str, is_so: bool) -> None:
    assert is_older(one, other) is is_so


def test_a_measured_upgrade_is_worth_the_hours_that_it_saves() -> None:
    better = Upgrade("m", "onnxruntime", "1.32.1", "1.33.0", ratio=1.25, low=1.2, high=1.3)
    found = only("upgrade", facts(model(lately=traffic(), processes=1), upgrades=(better,)))
    assert found.command == "pip install onnxruntime==1.33.0"
    assert found.gain.unit == "engine_hours_per_month"
    assert found.gain.value == pytest.approx(0.25 * 730 * (1 - 1 / 1.25))
    assert found.gain.sure == "measured"


@pytest.mark.parametrize(("ratio", "low"), [(1.02, 1.01), (1.3, 0.9), (0.8, 0.7)])
def test_an_upgrade_that_is_not_clearly_faster_is_none(ratio: float, low: float) -> None:
    assert none(facts(model(), upgrades=(Upgrade("m", "onnxruntime", "1", "2", ratio, low, 2.0),)))


def test_an_original_with_a_faster_version_beside_it_is_to_be_replaced() -> None:
    original = manifest("1", precision="fp32", parent=None)
    made = manifest("2", figures={"speedup": 2.5, "drop": 0.004})
    found = only("unoptimized", facts(model(manifest=original, others=(made,))))
    assert found.command == "headrace rollout start m --to 2"
    assert found.gain.value == 2.5
    assert "+0.40% accuracy lost" in found.gain.basis


def test_an_original_that_was_never_optimized_may_gain_as_others_did() -> None:
    original = manifest("1", precision="fp32", parent=None, name="n", days=1000)
    others = [manifest("2", figures={"speedup": speedup}) for speedup in (2.0, 3.0, 9.0)]
    optimized = model(manifest=others[0], others=tuple(others[1:]))
    found = only("unoptimized", facts(model(manifest=original), optimized))  # and no second time as due
    assert found.command == "headrace optimize RECIPE.py --out models/n"
    assert (found.gain.value, found.gain.sure) == (3.0, "estimated")
    assert only("unoptimized", facts(model(manifest=original))).gain.value is None


def test_a_version_is_due_when_its_days_are_over() -> None:
    old = model(manifest=manifest(days=91))
    assert "made 91 days ago" in only("due", facts(old)).found
    assert none(facts(model(manifest=manifest(days=89))))
    assert none(facts(replace(old, config=ModelConfig(reoptimize_days=0))))
    assert only("due", facts(model({"reoptimize_days": 5}, manifest=manifest(days=6)))).kind == "due"


def test_a_date_that_nobody_can_read_is_told_as_unknown() -> None:
    found = audit(facts(model(manifest=manifest(created="yesterday"))))
    assert not found.findings
    assert any("tells no date" in words for words in found.unknown)


def test_idle_replicas_are_counted_in_hours() -> None:
    idle = model({"placement": "replicas", "replicas": 4}, lately=traffic(), processes=4)
    found = only("idle", facts(idle))
    assert found.command == "headrace serve serve.yaml  # with models.m.replicas: 1"
    assert found.gain.value == pytest.approx(3 * 730)


def test_replicas_that_autoscaling_ends_by_itself_are_left_to_it() -> None:
    scaled = {"placement": "replicas", "autoscaling": {"min_replicas": 1, "max_replicas": 8}}
    assert none(facts(model(scaled, lately=traffic(), processes=4)))
    scaled["autoscaling"] = {"min_replicas": 3, "max_replicas": 8}
    found = only("idle", facts(model(scaled, lately=traffic(), processes=4)))
    assert "models.m.autoscaling.min_replicas: 1" in found.command
    assert found.gain.value == pytest.approx(2 * 730)


def test_gateways_are_not_called_idle_since_they_do_more_than_engines() -> None:
    assert none(facts(model(lately=traffic(engine_s=0.0), processes=8)))


def test_engines_without_a_pause_are_too_few() -> None:
    seen = traffic(engine_s=19.0, errors={"overloaded": 10.0})
    busy = model({"placement": "replicas", "replicas": 2}, lately=seen, processes=2)
    found = only("overloaded", facts(busy))
    assert "models.m.replicas: 3" in found.command
    assert found.gain.value == pytest.approx(10 / 10 * 730 * 3600)
    calm = replace(busy, lately=replace(seen, errors={}))
    assert only("overloaded", facts(calm)).gain.value is None
    inline = replace(busy, config=ModelConfig())
    assert "gateways: 3" in only("overloaded", facts(inline)).command


def test_permits_are_engines_too() -> None:
    busy = model({"batching": {"permits": 2}}, lately=traffic(engine_s=9.9), processes=1)
    assert busy.busy == pytest.approx(0.495)


@pytest.mark.parametrize(
    ("errors", "command"),
    [
        ({"engine": 30.0}, "headrace rollout rollback m"),
        ({"unavailable": 30.0, "engine": 1.0}, "headrace status"),
        ({"overloaded": 30.0}, "headrace serve serve.yaml  # with gateways: 2"),
    ],
)
def test_errors_ask_for_what_helps_against_their_kind(errors: dict[str, float], command: str) -> None:
    seen = traffic(errors=errors)
    found = only("errors", facts(model(lately=traffic(), so_far=seen, processes=1)))
    assert found.command == command
    assert found.gain.unit == "requests_per_month"


def test_few_errors_and_callers_mistakes_are_none() -> None:
    assert none(facts(model(so_far=traffic(errors={"engine": 1.0, "tensor": 500.0}))))
    assert none(facts(model(so_far=traffic(answered=10.0, errors={"engine": 5.0}))))  # too few to tell


def test_a_p99_is_late_when_its_bin_begins_at_the_objective() -> None:
    late = Histogram((0.01, 0.2, 0.5, math.inf), (900.0, 900.0, 1000.0, 1000.0))
    scaled = {"placement": "replicas", "autoscaling": {"max_replicas": 2, "objective_ms": 200.0}}
    found = only("latency", facts(model(scaled, lately=traffic(latency=late))))
    assert "P99 is 200 to 500 ms; the objective is 200 ms" in found.found
    assert found.gain.value == pytest.approx(100 / 10 * 730 * 3600)
    scaled["autoscaling"] = {"max_replicas": 2, "objective_ms": 300.0}
    assert none(facts(model(scaled, lately=traffic(latency=late))))


def test_batches_that_take_longer_than_the_slowest_of_the_baseline_are_drift() -> None:
    known = Recorded({1: 0.004, 8: 0.02})
    slow = traffic(engine_s=2.5, batches=100.0, rows=400.0)  # 25 ms each, of 4 rows
    found = only("drift", facts(model(lately=slow, baseline=known)))
    assert found.command == "headrace baseline check m/2"
    assert "took 25 ms on average" in found.found
    assert found.gain.value == pytest.approx(0.25 * 730 * (1 - 20 / 25))
    assert none(facts(model(lately=replace(slow, engine_s=2.3), baseline=known)))
    assert none(facts(model(lately=replace(slow, rows=900.0), baseline=known)))  # none as large was recorded
    assert none(facts(model(lately=replace(slow, batches=10.0), baseline=known)))  # too few to tell


def test_fewer_right_answers_than_the_baseline_are_drift() -> None:
    known = Recorded(accuracy=0.95)
    worse = model(baseline=known, judged=Judged(1000, 930.0), lately=traffic())
    found = only("drift", facts(worse))
    assert "93.00% of its answers were right; it was 95.00%" in found.found
    assert found.gain.value == pytest.approx(0.02 * 100 * 730 * 3600)
    assert none(facts(replace(worse, judged=Judged(1000, 945.0))))
    assert none(facts(replace(worse, judged=Judged(10, 1.0))))  # too few to tell


def test_a_cache_without_hits_is_not_worth_it() -> None:
    seen = traffic(tiers={"miss": 2000.0, "memory": 1.0})
    found = only("cache-useless", facts(model({"cache": True, "cache_memory_mib": 8.0}, so_far=seen)))
    assert found.command == "headrace serve serve.yaml  # with models.m.cache: false"
    assert (found.gain.unit, found.gain.value) == ("mib", 8.0)
    assert none(facts(model(so_far=seen)))


def test_a_full_memory_may_save_at_most_what_is_computed() -> None:
    memory = Memory(100, 63 << 20, 64 << 20)
    given = facts(model({"cache": True}, lately=traffic(), processes=1), memories=(memory,))
    found = only("cache-small", given)
    assert "headrace cache simulate" in found.command
    assert (found.gain.sure, found.gain.value) == ("at most", pytest.approx(0.25 * 730))
    shared = replace(given, memories=(), shared=memory)
    assert "shared cache" in only("cache-small", shared).found
    assert none(replace(given, memories=(), shared=replace(memory, max_bytes=0)))  # no limit


def test_a_memory_that_stays_empty_is_too_large() -> None:
    memory = Memory(100, 4 << 20, 64 << 20)
    seen = traffic(tiers={"miss": 6000.0, "memory": 6000.0})
    given = facts(model({"cache": True}, so_far=seen), memories=(memory, memory))
    found = only("cache-large", given)
    assert "cache.memory_mib: 8" in found.command
    assert found.gain.value == 112
    few = replace(seen, tiers={"miss": 10.0, "memory": 10.0})
    assert none(replace(given, models=(model({"cache": True}, so_far=few),)))  # it has only just started


def test_what_callers_feel_comes_first_then_hours_and_a_bound_after_what_is_expected() -> None:
    kinds = [finding.kind for finding in everything().findings]
    assert kinds == ["errors", "idle", "cache-small", "cache-useless", "due", "library"]


def test_findings_are_told_as_json_with_stable_keys() -> None:
    told = json.loads(json.dumps(as_json(everything()), allow_nan=False))
    assert told["format"] == 1
    assert set(told["findings"][0]) == {"kind", "model", "version", "found", "action", "command", "gain"}
    assert set(told["findings"][0]["gain"]) == {"unit", "value", "sure", "basis"}
    assert told["models"][0]["p99_s"] == {"value": pytest.approx(0.0099), "low": 0.0, "high": 0.01}
    assert told["unknown"] == ["something"]
    assert everything().exit_code == 1
