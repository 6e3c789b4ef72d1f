"""What `headrace tune` writes, and where: into the version, or into a new one for another engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from deployments import tuning
from engines.artifact import Artifact, Repository
from engines.manifest import Machine, Tuned
from engines.probe import probe
from optimize.tune import Candidate, Outcome, Row
from tests.onnx_models import publish_all

MACHINE = Machine(cpu="some", cores=2)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    publish_all(tmp_path)
    (tmp_path / "shapes.jsonl").write_text('{"sizes": {"length": 5}, "count": 3}\n')
    return tmp_path


def chosen(monkeypatch: pytest.MonkeyPatch, engine: str, engines: Sequence[str] = ()) -> None:
    """As if a set-up on this engine had been the fastest, and all of these had been tried."""
    shape = {"instances": 1, "threads": 2, "max_batch": 4, "max_padding": 0.1, "grouping": "nearest"}
    tuned = Tuned.model_validate({**shape, "machine": MACHINE})
    row = Row(Candidate(1, 1, 2, 4, 0.1, "nearest", engine))

    def measured(artifact: Artifact, seen: Sequence[Any], machine: Machine, **told: Any) -> Outcome:
        others: Mapping[str, Artifact] = told["others"]
        assert set(others) == set(engines)
        return Outcome([row], row, row, tuned)

    monkeypatch.setattr(tuning, "tune", measured)


def tuned(root: Path, engines: Sequence[str]) -> tuning.Result:
    subject = tuning.subject("double/1", None, root)
    return tuning.run(subject, root / "shapes.jsonl", 0, 1.0, 8, engines=engines)


def test_its_own_engine_keeps_the_version(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen(monkeypatch, "")
    result = tuned(root, [])
    assert result.artifact.manifest.version == "1"
    assert Repository(root).manifest("double", "1").tuned is not None
    assert list(result.notes()) == []


@pytest.mark.skipif(bool(probe("openvino")), reason=probe("openvino") or "-")
@pytest.mark.parametrize("is_faster", [True, False])
def test_a_faster_engine_has_a_version_of_its_own(
    root: Path, monkeypatch: pytest.MonkeyPatch, is_faster: bool
) -> None:
    chosen(monkeypatch, "openvino" if is_faster else "", ["openvino"])
    result = tuned(root, ["openvino"])
    repository = Repository(root)
    manifest = result.artifact.manifest
    (note,) = result.notes()
    if is_faster:
        assert (manifest.version, manifest.engine, manifest.parent) == ("3", "openvino", "1")
        assert repository.manifest("double", "3").tuned is not None
        assert repository.manifest("double", "1").tuned is None
        assert note.startswith("published as 'double/3' for openvino, whose answers agree (least cosine 1.0")
        assert note.endswith("headrace rollout start double --to 3")
    else:
        assert manifest.version == "1"
        assert note == "openvino is not faster by more than noise"


def test_an_engine_that_answers_otherwise_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen(monkeypatch, "")
    result = tuned(root, [])
    other = tuning.Result(result.outcome, result.artifact, {"openvino": 0.5})
    assert list(other.notes()) == [
        "openvino was not tried: its answers differ (least cosine 0.5000, needed 0.99)"
    ]
