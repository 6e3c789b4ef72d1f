"""From versions in a repository to a baseline, and to what a comparison says."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.baselines import MODEL, PRESENT, network, publish_builds
from engines.artifact import Repository
from headrace.errors import ArtifactRejected, CallerError, ConfigRejected, NotFound
from headrace.tensors import Signature, TensorSpec
from optimize.recipe import Recipe, recipe_of
from rollout import state as states
from rollout.baseline import dump, read_baseline
from rollout.check import Check, answering, check, record
from rollout.check_report import baseline_table, check_json, check_table, in_words
from rollout.store import Store
from tests.onnx_models import publish_all

QUICK_S = 0.5
SEEN = [({"length": 3}, 1), ({"length": 30}, 1)]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return publish_all(tmp_path)


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    return publish_builds(tmp_path_factory.mktemp("builds"))


def text_of(table: object) -> str:
    file = StringIO()
    Console(file=file, width=160, color_system=None).print(table)
    return file.getvalue()


def recipe_with(value: float) -> Recipe:
    return recipe_of(model=lambda: Path("none.onnx"), evaluate=lambda predict: value, example_inputs=list)


def published(repository: Repository, version: str, data: bytes, **parts: object) -> None:
    """Another version of the network."""
    signature = repository.manifest(MODEL, PRESENT).signature
    files: dict[str, Path | bytes] = {"model.onnx": data}
    told = {"graph": "model.onnx", "signature": signature} | parts
    repository.publish(MODEL, version, files, **told)  # type: ignore[arg-type]


def test_a_recorded_baseline_holds_all_and_is_kept_with_the_version(repository: Repository) -> None:
    baseline = record(repository, "double", "1", seconds=0.1, seen=SEEN, recipe=recipe_with(0.75))
    artifact = repository.open("double", "1")
    assert read_baseline(repository, artifact) == baseline
    assert baseline.digest == artifact.digest
    assert {(entry.batch, entry.sizes["length"]) for entry in baseline.latencies} == {
        (batch, length) for batch in (1, 2, 4, 8) for length in (3, 30)
    }
    assert all(0 < entry.median_ms <= entry.p95_ms for entry in baseline.latencies)
    full = baseline.throughput
    assert full.engine_s_per_1000 == pytest.approx(1000 / full.rows_per_s)
    assert full.cpu_s_per_1000 > 0
    assert baseline.size_bytes == artifact.manifest.size_bytes()
    assert (baseline.accuracy.value, baseline.accuracy.source) == (0.75, "recipe")  # type: ignore[union-attr]
    told = text_of(baseline_table(baseline))
    assert "latency, batch 8, length 30" in told
    assert "0.7500 (recipe)" in told


def test_an_accuracy_that_nobody_told_is_unknown(repository: Repository) -> None:
    assert record(repository, "double", "1", seconds=0.1, seen=SEEN).accuracy is None


def test_without_shapes_the_error_says_where_to_get_them(repository: Repository) -> None:
    with pytest.raises(ConfigRejected, match="headrace shapes"):
        record(repository, "double", "1", seconds=0.1)


def test_the_version_that_answers_is_the_stable_one(repository: Repository) -> None:
    assert answering(repository, "double") == "2"
    Store(repository.root).change(
        "double", "1", lambda state: states.start(state, "2", states.Plan(), "i", 1.0)
    )
    assert answering(repository, "double") == "1"
    with pytest.raises(NotFound, match="no model 'duoble'"):
        answering(repository, "duoble")


def test_a_version_passes_against_itself_with_what_was_recorded_beside(builds: Repository) -> None:
    found = check(builds, MODEL, PRESENT, seconds=QUICK_S)
    assert (found.old, found.new) == (PRESENT, PRESENT)
    assert not found.regressions
    by_name = {row.name: row for row in found.rows}
    assert by_name["median latency, batch 1"].recorded is not None
    assert by_name["throughput"].recorded is not None
    assert by_name["size"].change == 1.0
    assert by_name["accuracy"].state == "unknown"
    assert any("told for comparison only" in note for note in found.notes)


def test_figures_of_another_machine_are_not_compared(tmp_path: Path) -> None:
    builds = publish_builds(tmp_path)
    artifact = builds.open(MODEL, PRESENT)
    baseline = read_baseline(builds, artifact)
    assert baseline is not None
    elsewhere = baseline.fingerprint.model_copy(update={"cpu": "Some CPU"})
    builds.set_baseline(artifact, dump(baseline.model_copy(update={"fingerprint": elsewhere})))
    found = check(builds, MODEL, PRESENT, seconds=QUICK_S)
    assert all(row.recorded is None for row in found.rows)
    assert any("not comparable: the CPU was Some CPU, now" in note for note in found.notes)


def test_a_larger_or_less_accurate_version_fails_however_fast(tmp_path: Path) -> None:
    builds = publish_builds(tmp_path)
    published(builds, "9", network(), figures={"accuracy": 0.9})
    published(builds, "10", network() + b"\x52\x00" * 2_000_000, figures={"accuracy": 0.88})
    found = check(builds, MODEL, "10", against="9", seconds=QUICK_S)
    assert {"size", "accuracy"} <= {row.name for row in found.regressions}
    assert "accuracy 0.8800 after 0.9000" in in_words(found)
    near = check(builds, MODEL, "10", against="9", seconds=QUICK_S, max_drop=0.02, tolerance=2)
    assert not near.regressions


def test_a_recipe_judges_both(builds: Repository) -> None:
    found = check(builds, MODEL, PRESENT, seconds=QUICK_S, recipe=recipe_with(0.5))
    (row,) = [row for row in found.rows if row.name == "accuracy"]
    assert (row.old, row.new, row.state) == (0.5, 0.5, "ok")


def test_another_interpreter_runs_the_new_side(builds: Repository) -> None:
    found = check(builds, MODEL, PRESENT, seconds=QUICK_S, python=Path(sys.executable))
    assert not found.regressions
    with pytest.raises(ConfigRejected, match="leave out --recipe, or --python"):
        check(builds, MODEL, PRESENT, python=Path(sys.executable), recipe=recipe_with(0.5))


def test_versions_that_take_other_inputs_cannot_be_compared(tmp_path: Path) -> None:
    builds = publish_builds(tmp_path)
    spec = TensorSpec("x", "FP32", ("batch", 8))
    published(builds, "9", network(), signature=Signature((spec,), (spec,)))
    with pytest.raises(CallerError, match="different signatures"):
        check(builds, MODEL, "9", against=PRESENT)


def test_without_a_baseline_or_version_nothing_is_measured(repository: Repository) -> None:
    with pytest.raises(CallerError, match="no version of 'double' has a baseline"):
        check(repository, "double", "2")
    with pytest.raises(NotFound, match="no version '7'"):
        check(repository, "double", "7")
    with pytest.raises(NotFound, match="no version '7'"):
        check(repository, "double", "2", against="7")


def test_a_damaged_baseline_is_refused_before_anything_is_measured(repository: Repository) -> None:
    repository.set_baseline(repository.open("double", "1"), b"{}")
    with pytest.raises(ArtifactRejected, match="'double/1' is refused"):
        check(repository, "double", "2")


def test_shapes_are_taken_from_the_baseline_where_the_manifest_has_none(repository: Repository) -> None:
    record(repository, "double", "1", seconds=0.1, seen=SEEN)
    found = check(repository, "double", "2", seconds=QUICK_S)
    assert found.old == "1"
    assert "median latency, batch 1, length 30" in {row.name for row in found.rows}


@pytest.fixture(scope="module")
def passed(builds: Repository) -> Check:
    return check(builds, MODEL, PRESENT, seconds=QUICK_S)


def test_the_table_has_a_row_for_each_figure(passed: Check) -> None:
    told = text_of(check_table(passed))
    for row in passed.rows:
        assert row.name in told
    assert "recorded" in told
    plain = replace(passed, rows=tuple(replace(row, recorded=None) for row in passed.rows))
    assert "recorded" not in text_of(check_table(plain))


def test_the_json_holds_every_row_and_the_verdict(passed: Check) -> None:
    told = json.loads(check_json(passed))
    assert told["is_worse"] is False
    assert [row["name"] for row in told["rows"]] == [row.name for row in passed.rows]
    assert told["words"] == in_words(passed)


def test_the_words_tell_what_is_worse_or_unsure(passed: Check) -> None:
    rows = {row.name: row for row in passed.rows}
    slow = replace(rows["median latency, batch 1"], state="worse", change=1.25)
    vague = replace(rows["throughput"], state="unsure")
    assert "is worse than 1: median latency, batch 1 1.25 times as much" in in_words(
        replace(passed, rows=(slow, vague))
    )
    assert "too busy to be sure of: throughput" in in_words(replace(passed, rows=(vague,)))
