"""A version profiled alone, from the repository to the folder that is left."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from engines.artifact import Artifact, Repository
from engines.manifest import BatchLatency
from headrace.errors import CallerError, ConfigRejected
from optimize.publish import publish
from profiling.alone import shapes, take
from profiling.folder import SUMMARY, Subject, default_folder, write
from profiling.outcome import Taken
from tests import letters
from tests.onnx_models import publish_all

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    return publish_all(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def slow(repository: Repository) -> Artifact:
    return repository.open("slow", "1")


@pytest.fixture(scope="module")
def taken(slow: Artifact) -> Taken:
    return take(slow, "ort", 1.0, threads=1)


def test_the_folder_holds_the_summary_and_the_trace(taken: Taken, tmp_path: Path) -> None:
    found = write(tmp_path / "new", Subject("slow", "1", "ort"), taken, NOW)
    told = json.loads((tmp_path / "new" / SUMMARY).read_text())
    assert told["tables"][0]["rows"][0]["name"] == "MatMul (CPU)"
    assert told["traffic"]["batches"] >= 1
    assert told["ended"] == "2026-03-04T05:06:07+00:00"
    assert [(tmp_path / "new" / file).is_file() for file in told["files"]] == [True]
    assert str(tmp_path / "new") in found.view[0]


def test_a_profile_without_traffic_says_what_to_do(taken: Taken, tmp_path: Path) -> None:
    idle = replace(taken, traffic={**taken.traffic, "requests": 0, "batches": 0})
    found = write(tmp_path, Subject("slow", "1", "ort"), idle, NOW)
    assert "no request came meanwhile" in found.notes[-1]
    assert "--repository" in found.notes[-1]


def test_a_folder_that_cannot_be_is_named(taken: Taken, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigRejected, match="name another --out"):
        write(tmp_path / "file" / "out", Subject("slow", "1", "ort"), taken, NOW)


def test_each_profile_has_a_folder_of_its_own() -> None:
    assert default_folder(Subject("slow", "1", "py-spy"), NOW) == Path(
        "out/profile/slow-1-py-spy-20260304-050607"
    )


def test_batches_are_those_that_the_manifest_knows(slow: Artifact) -> None:
    point = BatchLatency(batch=8, sizes={"length": 32}, threads=1, median_ms=1.0, low_ms=1.0, high_ms=1.0)
    manifest = slow.manifest.model_copy(
        update={"warm_up": ({"batch": 1, "length": 16},), "latencies": (point, point)}
    )
    assert shapes(manifest) == [{"batch": 1, "length": 16}, {"length": 32, "batch": 8}]
    assert shapes(slow.manifest.model_copy(update={"warm_up": (), "latencies": ()})) == [{"batch": 1}]


def test_python_code_cannot_be_profiled_alone(repository: Repository) -> None:
    publish(Path(letters.__file__), repository, "letters")
    with pytest.raises(CallerError, match="serve it and profile it under its traffic"):
        take(repository.open("letters", "1"), "torch", 1.0, threads=1)
