"""Baselines from the command line: exit codes that scripts can tell apart, and one clear message."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.baselines import COPY, MODEL, PRESENT, SLOWED, publish_builds
from tests.processes import headrace


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    publish_builds(root)
    return root


def ran(models: Path, *words: str) -> tuple[int, str, str]:
    """Exit code, output and errors."""
    done = headrace("baseline", *words, "--repository", str(models))
    assert "Traceback" not in done.stderr
    return done.returncode, " ".join(done.stdout.split()), done.stderr


def test_an_unchanged_build_ends_with_0(models: Path, tmp_path: Path) -> None:
    file = tmp_path / "check.json"
    code, out, err = ran(models, "check", f"{MODEL}/{COPY}", "--seconds", "8", "--json", str(file))
    assert code == 0, err
    assert f"version {COPY} of '{MODEL}' is no worse than {PRESENT}" in out
    assert json.loads(file.read_bytes())["is_worse"] is False


def test_a_slowed_build_ends_with_3_the_table_and_the_json(models: Path, tmp_path: Path) -> None:
    file = tmp_path / "check.json"
    code, out, err = ran(models, "check", f"{MODEL}/{SLOWED}", "--seconds", "40", "--json", str(file))
    assert code == 3
    assert f"version {SLOWED} of '{MODEL}' is worse than {PRESENT}" in err
    assert "worse" in out
    assert json.loads(file.read_bytes())["is_worse"] is True


def test_a_baseline_is_recorded_and_shown(models: Path, tmp_path: Path) -> None:
    file = tmp_path / "baseline.json"
    code, out, err = ran(models, "record", f"{MODEL}/{COPY}", "--seconds", "0.2", "--json", str(file))
    assert code == 0, err
    assert "throughput" in out
    code, out, err = ran(models, "show", f"{MODEL}/{COPY}", "--json")
    assert code == 0, err
    assert json.loads(out) == json.loads(file.read_bytes())
    code, out, _ = ran(models, "show", f"{MODEL}/{COPY}")
    assert code == 0
    assert "recorded on such a machine" in out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["check", MODEL], "which version is the new one"),
        (["check", f"{MODEL}/77"], "no version '77'"),
        (["check", f"{MODEL}/{COPY}", "--against", "77"], "no version '77'"),
        (["check", "nothing/1"], "no model 'nothing'"),
        (["show", f"{MODEL}/{SLOWED}"], "has no baseline; record one by"),
        (["record", f"{MODEL}/{COPY}", "--shapes", "nowhere.jsonl"], "no file of shapes"),
        (["record", f"{MODEL}/{COPY}", "--recipe", "nowhere.py"], "nowhere.py"),
        (["check", f"{MODEL}/{COPY}", "--tolerance", "0"], "tolerance"),
    ],
)
def test_wrong_use_ends_with_2_and_one_message(models: Path, words: list[str], told: str) -> None:
    code, _, err = ran(models, *words)
    assert code == 2
    assert told in err


def test_a_changed_baseline_ends_with_1_and_how_to_mend_it(tmp_path: Path) -> None:
    publish_builds(tmp_path)
    path = tmp_path / MODEL / PRESENT / "baseline.json"
    path.write_bytes(path.read_bytes().replace(b'"threads": 1', b'"threads": 2'))
    code, _, err = ran(tmp_path, "show", f"{MODEL}/{PRESENT}")
    assert code == 1
    assert "its SHA-256 differs" in err
    assert "headrace baseline record" in err
