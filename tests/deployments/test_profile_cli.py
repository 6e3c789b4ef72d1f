"""`headrace profile` of a version alone, and what it refuses; that of served ones is in test_live_profile."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.onnx_models import publish_all
from tests.processes import headrace


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("models")
    publish_all(root)
    return str(root)


def test_a_version_alone_becomes_tables_and_a_folder(models: str, tmp_path: Path) -> None:
    done = headrace(
        *("profile", "slow", "--with", "ort", "--seconds", "1", "--repository", models),
        *("--out", str(tmp_path / "out")),
    )
    assert done.returncode == 0, done.stderr
    assert "MatMul (CPU)" in done.stdout
    assert "ui.perfetto.dev" in done.stdout
    assert json.loads((tmp_path / "out" / "profile.json").read_text())["process"]["kind"] == "alone"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["slow", "--with", "perf"], 2, "there are: ort, torch"),
        (["slow", "--seconds", "0"], 2, "not within 1 and 600"),
        (["nobody"], 2, "no model 'nobody'; there are:"),
        (["slow", "--version", "9"], 2, "9"),
        (["slow", "--with", "nsight"], 4, "nsight-systems-cli"),
        (
            ["slow", "--with", "vtune"],
            4,
            "vtune -collect hotspots -result-dir vtune-result -- headrace profile slow",
        ),
    ],
)
def test_what_cannot_be_is_one_clear_line_and_a_status(
    models: str, arguments: list[str], code: int, words: str
) -> None:
    done = headrace("profile", *arguments, "--repository", models)
    assert (done.returncode, words in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr
