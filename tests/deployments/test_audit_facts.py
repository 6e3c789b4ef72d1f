"""What a repository and a configuration tell an audit, without a server."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from deployments.audit_facts import Sources, gather, here
from engines.artifact import Repository
from engines.cpu import cpu_cores
from headrace.errors import ConfigRejected, EngineUnavailable
from rollout.audit import audit
from rollout.baseline import Accuracy, Baseline, Latency, Throughput, dump
from rollout.fingerprint import fingerprint
from tests.onnx_models import publish_all


@pytest.fixture
def config(tmp_path: Path) -> Path:
    publish_all(tmp_path / "models")
    file = tmp_path / "serve.yaml"
    file.write_text("repository: models\nmodels: {double: {versions: ['1']}, words: {}}\n")
    return file


def sources(config: Path | None, *metrics: str) -> Sources:
    return Sources(config, None, metrics, seconds=0.1)


def test_the_versions_that_answer_are_looked_at_and_what_lies_beside_them(config: Path) -> None:
    found = gather(sources(config))
    double, words = found.models
    assert (double.name, double.version) == ("double", "1")
    assert [other.version for other in double.others] == ["2"]
    assert (words.name, words.lately, words.processes) == ("words", None, None)
    assert found.config == str(config)
    assert any("no server was named" in words for words in found.unknown)


def test_this_machine_is_told_with_its_libraries() -> None:
    found = here()
    assert found.cores == cpu_cores()
    assert found.libraries["onnxruntime"]


def test_the_report_tells_the_command_that_made_a_version(config: Path) -> None:
    folder = config.parent / "models" / "double" / "1"
    (folder / "report.json").write_text('{"command": "headrace optimize r.py --out models/double"}')
    assert gather(sources(config)).models[0].command == "headrace optimize r.py --out models/double"
    for damaged in ("{", "[]", "9" * 5000, '{"command": 3}'):
        (folder / "report.json").write_text(damaged)
        assert not gather(sources(config)).models[0].is_by_recipe


def recorded(config: Path, **changes: Any) -> None:
    """A baseline of double/1."""
    repository = Repository(config.parent / "models")
    artifact = repository.open("double", "1")
    entry = {"sizes": {"length": 1}, "median_ms": 1.0, "calls": 9}
    parts: dict[str, Any] = {
        "model": "double",
        "version": "1",
        "digest": artifact.digest,
        "recorded": "2030-01-01T00:00:00+00:00",
        "fingerprint": fingerprint(),
        "threads": 1,
        "latencies": (
            Latency(batch=1, p95_ms=2.0, **entry),
            Latency(batch=1, p95_ms=3.0, **entry),
            Latency(batch=8, p95_ms=9.0, **entry),
        ),
        "throughput": Throughput(
            rows_per_s=1.0,
            mean_batch=1.0,
            grouping="exact",
            max_batch=8,
            engine_s_per_1000=1.0,
            cpu_s_per_1000=1.0,
        ),
        "size_bytes": 1,
        "accuracy": Accuracy(value=0.9, source="recipe"),
    }
    repository.set_baseline(artifact, dump(Baseline(**(parts | changes))))


def test_a_baseline_is_read_by_its_slowest_shapes(config: Path) -> None:
    recorded(config)
    found = gather(sources(config)).models[0].baseline
    assert found is not None
    assert found.slowest_s == {1: 0.003, 8: 0.009}
    assert found.accuracy == 0.9


def test_latencies_of_another_machine_are_not_held_against_this_one(config: Path) -> None:
    other = fingerprint().model_copy(update={"cpu": "another"})
    recorded(config, fingerprint=other, accuracy=None)
    found = gather(sources(config))
    assert found.models[0].baseline is not None
    assert found.models[0].baseline.slowest_s == {}
    assert found.models[0].baseline.accuracy is None
    assert any("its baseline is of another machine" in words for words in found.unknown)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"baseline": 3}', '{"baseline": {"latencies": [{}]}}'])
def test_a_damaged_baseline_is_told_and_left_out(config: Path, text: str) -> None:
    (config.parent / "models" / "double" / "1" / "baseline.json").write_text(text)
    found = gather(sources(config))
    assert found.models[0].baseline is None
    assert any("headrace baseline record double/1" in words for words in found.unknown)


def test_a_damaged_version_is_told_and_the_others_are_looked_at(config: Path) -> None:
    (config.parent / "models" / "double" / "1" / "manifest.json").write_text("{")
    found = gather(sources(config))
    assert [model.name for model in found.models] == ["words"]
    assert any(words.startswith("double: manifest.json is wrong") for words in found.unknown)


def test_a_damaged_version_beside_the_one_that_answers_is_told_only(config: Path) -> None:
    (config.parent / "models" / "double" / "2" / "manifest.json").write_text("{")
    found = gather(sources(config))
    assert [model.name for model in found.models] == ["double", "words"]
    assert any(words.startswith("double/2: ") for words in found.unknown)


def test_a_repository_that_is_not_here_is_refused(config: Path) -> None:
    shutil.rmtree(config.parent / "models")
    with pytest.raises(ConfigRejected, match="holds no models that can be read here"):
        gather(sources(config))


def test_metrics_that_do_not_answer_are_an_error_and_not_an_empty_audit(config: Path) -> None:
    with pytest.raises(EngineUnavailable, match="no metrics at"):
        gather(sources(config, "http://127.0.0.1:9/metrics"))


def test_without_anything_to_look_at_it_says_what_to_name() -> None:
    with pytest.raises(ConfigRejected, match="name a configuration"):
        gather(sources(None))


def test_what_was_optimized_asks_for_nothing(config: Path) -> None:
    repository = Repository(config.parent / "models")
    one = repository.open("double", "1")
    repository.publish(
        "double",
        "3",
        {file: one.folder / file for file in one.manifest.files},
        graph=one.manifest.graph,
        signature=one.manifest.signature,
        precision="int8-dynamic",
        parent="1",
        figures={"speedup": 2.0, "drop": 0.001},
    )
    config.write_text("repository: models\nmodels: {double: {versions: ['3']}}\n")
    assert audit(gather(sources(config))).findings == ()
    config.write_text("repository: models\nmodels: {double: {versions: ['1']}}\n")
    (found,) = audit(gather(sources(config))).findings
    assert found.command == "headrace rollout start double --to 3"
