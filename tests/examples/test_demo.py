"""The main job, whole, with few messages; and the second Ray job alone."""

from __future__ import annotations

import json
import signal
import time
import urllib.request
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deployments.load import Reply
from deployments.ports import free_ports
from examples.demo import tensor_bytes, unlike_fresh
from examples.demo_result import Result, Row
from tests.processes import Started, started

MESSAGES = 200


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "models"


def demo(repository: Path, *more: str) -> AbstractContextManager[Started]:
    (port,) = free_ports(1)
    return started(
        "demo", "--messages", str(MESSAGES), "--port", str(port), "--repository", str(repository), *more
    )


def test_the_main_job_runs_stays_up_when_asked_and_leaves_nothing_behind(
    repository: Path, tmp_path: Path
) -> None:
    page, figures = tmp_path / "demo.html", tmp_path / "demo.json"
    with demo(repository, "--json", str(figures), "--page", str(page), "--keep") as run:
        assert run.wait_for("examples.handle_client --address", 280), run.text()
        url = next(line for line in run.text().splitlines() if "health/ready" in line).split()[-1]
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert answer.status == 200
        assert run.end(signal.SIGINT) == 0, run.text()
        assert run.left_behind() == []
    document = json.loads(figures.read_bytes())
    first, second = document["rows"]
    assert (first["errors"], second["errors"], document["handle"]["errors"]) == (0, 0, 0)
    assert document["handle"]["calls"] == MESSAGES
    assert document["cache"]["hits"] > 0
    assert document["cache"]["unlike_fresh"] == 0
    assert second["size_bytes"] / first["size_bytes"] <= 0.30
    assert first["accuracy"] - second["accuracy"] <= 0.01
    assert first["mean_batch"] == 1.0
    assert "<svg" in page.read_text(encoding="utf-8")
    assert sorted(path.name for path in (repository / "minilm").iterdir()) == ["1", "2"]


def test_ctrl_c_in_the_middle_leaves_nothing_behind(repository: Path) -> None:
    with demo(repository) as run:
        assert run.wait_for("every goal is reached", 200), run.text()
        deadline = time.monotonic() + 90
        while not any("Gateway" in command for command in run.commands()):
            assert time.monotonic() < deadline, run.text()
            time.sleep(0.2)
        assert run.end(signal.SIGINT) == 130, run.text()
        assert run.left_behind() == []


def row(errors: int = 0) -> Row:
    return Row("", 1, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, errors)


@pytest.mark.parametrize(
    ("change", "is_good"),
    [
        ({}, True),
        ({"baseline": row(errors=1)}, False),
        ({"served": row(errors=1)}, False),
        ({"handle_errors": 1}, False),
        ({"hits_unlike_fresh": 1}, False),
        ({"hits": 0}, False),
    ],
)
def test_one_failure_anywhere_makes_the_result_bad(change: dict[str, Any], is_good: bool) -> None:
    good = Result(row(), row(), 9, 0, 1.0, 9, hits=1, hits_unlike_fresh=0)
    assert replace(good, **change).is_good is is_good


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
