"""The main job, whole, with few messages; and the second Ray job alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.load import Reply
from deployments.ports import free_ports
from examples.demo import tensor_bytes, unlike_fresh

ROOT = Path(__file__).resolve().parents[2]
MESSAGES = 200


def test_the_main_job_runs_and_writes_its_table_and_its_page(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    page, figures = tmp_path / "demo.html", tmp_path / "demo.json"
    command = [sys.executable, "-m", "deployments.cli", "demo", "--messages", str(MESSAGES)]
    command += ["--port", str(port), "--repository", str(tmp_path / "models")]
    command += ["--json", str(figures), "--page", str(page)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(figures.read_bytes())
    before, after = document["rows"]
    assert (before["errors"], after["errors"], document["handle"]["errors"]) == (0, 0, 0)
    assert document["handle"]["calls"] == MESSAGES
    assert document["cache"]["hits"] > 0
    assert document["cache"]["unlike_fresh"] == 0
    assert after["size_bytes"] / before["size_bytes"] <= 0.30
    assert before["accuracy"] - after["accuracy"] <= 0.01
    assert before["mean_batch"] == 1.0
    assert "<svg" in page.read_text(encoding="utf-8")
    versions = sorted(path.name for path in (tmp_path / "models" / "minilm").iterdir())
    assert versions == ["1", "2"]


@pytest.mark.parametrize(
    ("bodies", "answers", "hits", "wrong"),
    [
        ([b"a", b"a"], ["1", "1"], [False, True], 0),
        ([b"a", b"a"], ["1", "2"], [False, True], 1),
        ([b"a", b"b"], ["1", "1"], [False, True], 1),
        ([b"a", b"a", b"a"], ["1", "2", "2"], [False, False, True], 0),
    ],
)
def test_a_cached_answer_must_be_one_that_was_computed(
    bodies: list[bytes], answers: list[str], hits: list[bool], wrong: int
) -> None:
    assert unlike_fresh(bodies, answers, hits) == wrong


def test_the_tensor_is_what_follows_the_json() -> None:
    assert tensor_bytes(Reply(200, 0.1, {"inference-header-content-length": "2"}, b"{}xyz")) == b"xyz"
    assert tensor_bytes(Reply(500, 0.1, {}, b"{}")) == b""
