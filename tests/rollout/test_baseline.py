"""A baseline is this version's own, unchanged, or it is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from engines.artifact import Artifact, Repository
from headrace.errors import ArtifactRejected, CallerError
from rollout.baseline import Accuracy, Baseline, Latency, Throughput, choose_old, dump, parse, read_baseline
from rollout.fingerprint import fingerprint
from tests.onnx_models import publish_all


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return publish_all(tmp_path)


def baseline_of(artifact: Artifact, **changes: object) -> Baseline:
    parts: dict[str, object] = {
        "model": artifact.manifest.name,
        "version": artifact.manifest.version,
        "digest": artifact.digest,
        "recorded": "2026-01-02T03:04:05+00:00",
        "fingerprint": fingerprint(),
        "threads": 1,
        "latencies": (Latency(batch=1, sizes={"length": 3}, median_ms=0.5, p95_ms=0.7, calls=100),),
        "throughput": Throughput(
            rows_per_s=1000.0,
            mean_batch=8.0,
            grouping="exact",
            max_batch=8,
            engine_s_per_1000=1.0,
            cpu_s_per_1000=1.0,
        ),
        "size_bytes": artifact.manifest.size_bytes(),
        "accuracy": Accuracy(value=0.9, source="manifest"),
    }
    return Baseline.model_validate(parts | changes)


def signed(document: dict[str, object]) -> bytes:
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return json.dumps(
        {"sha256": hashlib.sha256(canonical.encode()).hexdigest(), "baseline": document}
    ).encode()


def test_a_baseline_is_read_as_it_was_written(repository: Repository) -> None:
    artifact = repository.open("double", "1")
    assert read_baseline(repository, artifact) is None
    baseline = baseline_of(artifact)
    repository.set_baseline(artifact, dump(baseline))
    assert read_baseline(repository, artifact) == baseline


def test_a_changed_figure_is_refused_with_how_to_mend_it(repository: Repository) -> None:
    artifact = repository.open("double", "1")
    data = dump(baseline_of(artifact)).replace(b"0.5", b"9.5")
    with pytest.raises(ArtifactRejected, match="'double/1' is refused: its SHA-256 differs") as refused:
        parse(data, artifact)
    assert "headrace baseline record double/1" in str(refused.value)


def test_the_baseline_of_another_version_is_refused(repository: Repository) -> None:
    data = dump(baseline_of(repository.open("double", "2")))
    with pytest.raises(ArtifactRejected, match="it is that of 'double/2'"):
        parse(data, repository.open("double", "1"))


def test_a_baseline_of_other_files_is_refused(repository: Repository) -> None:
    artifact = repository.open("double", "1")
    data = dump(baseline_of(artifact, digest="0" * 64))
    with pytest.raises(ArtifactRejected, match="recorded of other files"):
        parse(data, artifact)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "not what Headrace writes"),
        (b"[]", "not what Headrace writes"),
        (b"{}", "not what Headrace writes"),
        (b"[" * 100_000, "not what Headrace writes"),
        (signed({"format": 1}), "Field required"),
        (b"\xff\xfe", "not what Headrace writes"),
    ],
)
def test_what_is_no_baseline_is_refused(repository: Repository, data: bytes, problem: str) -> None:
    with pytest.raises(ArtifactRejected, match=problem):
        parse(data, repository.open("double", "1"))


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"format": 2}, "format"),
        ({"latencies": []}, "latencies"),
        ({"more": 1}, "more"),
        ({"digest": "no digest"}, "digest"),
        ({"threads": 0}, "threads"),
    ],
)
def test_a_document_that_is_signed_must_still_be_right(
    repository: Repository, change: dict[str, object], where: str
) -> None:
    artifact = repository.open("double", "1")
    document = baseline_of(artifact).model_dump(mode="json") | change
    with pytest.raises(ArtifactRejected, match=f"refused: {where}"):
        parse(signed(document), artifact)


@pytest.mark.parametrize(
    ("new", "answers", "parent", "recorded", "old"),
    [
        ("3", "1", "2", ["1", "2"], "1"),  # the one that answers
        ("3", "3", "2", ["1", "2", "3"], "2"),  # the parent
        ("3", "4", "2", ["1", "2"], "2"),
        ("3", "3", None, ["1", "2", "3"], "2"),  # the newest other one
        ("3", "3", "9", ["1"], "1"),
        ("3", "3", "2", ["3"], "3"),  # itself
    ],
)
def test_the_old_version_is_the_one_that_answers_else_the_parent_else_the_newest(
    new: str, answers: str, parent: str | None, recorded: list[str], old: str
) -> None:
    assert choose_old(new, answers, parent, recorded, "m") == old


def test_without_any_baseline_there_is_nothing_to_compare_with() -> None:
    with pytest.raises(CallerError, match=r"headrace baseline record m/VERSION.*--against"):
        choose_old("2", "1", "1", [], "m")
