"""`headrace plan`, from a version on the shelf to the plans that replicas find."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.onnx_models import publish_all
from tests.processes import headrace


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HEADRACE_PLANS", str(tmp_path / "plans"))
    publish_all(tmp_path / "models")
    return str(tmp_path / "models")


def test_a_version_is_published_for_tensorrt_and_its_plans_are_built_ahead(
    shelf: str, tmp_path: Path
) -> None:
    done = headrace("publish", "double/1", "--engine", "tensorrt", "--repository", shelf)
    assert done.returncode == 0, done.stderr
    told = tmp_path / "plans.json"
    options = ["--architecture", "8.9", "--architecture", "12.0", "--repository", shelf, "--json", str(told)]
    done = headrace("plan", "double/3", *options)
    assert done.returncode == 0, done.stderr
    assert "8.9" in done.stdout
    assert [each["architecture"] for each in json.loads(told.read_text())] == ["8.9", "12.0"]
    assert len(list((tmp_path / "plans").glob("*.plan"))) == 2
    again = headrace("plan", "double/3", *options)
    assert "was there" in again.stdout


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["plan", "double/1", "--architecture", "8.9"], "publish it for TensorRT first"),
        (["plan", "double/7", "--architecture", "8.9"], "no version '7'"),
        (["publish", "double/1", "--engine", "abacus"], "allowed: onnxruntime, openvino, tensorrt"),
        (["publish", "double/1"], "is published for onnxruntime already"),
        (["publish", "double"], "give a file and --name, or NAME/VERSION"),
    ],
)
def test_what_cannot_be_is_told(shelf: str, words: list[str], problem: str) -> None:
    done = headrace(*words, "--repository", shelf)
    assert done.returncode == 2
    assert problem in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_without_a_gpu_the_gpu_here_is_missed(shelf: str) -> None:
    headrace("publish", "double/1", "--engine", "tensorrt", "--repository", shelf)
    done = headrace("plan", "double/3", "--repository", shelf)
    if done.returncode:
        assert "no NVIDIA driver" in done.stderr or "no GPU" in done.stderr
        assert "Traceback" not in done.stderr
