"""Other servers are waited for until they answer, and end with all their workers."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from benchmarks.compare import CLIENTS, _closed
from benchmarks.servers.base import Setup, Task, is_right
from headrace.errors import EngineUnavailable
from tests.benchmarks.conftest import Small


def test_a_server_answers_as_the_engine_does_and_ends_with_its_workers(
    task: Task, small: Small, tmp_path: Path
) -> None:
    contender = small(pids=tmp_path / "worker")
    with contender.serving(task, Setup(1, 1, 1)) as port:
        load = _closed(port, contender.requests(task))
        worker = psutil.Process(int((tmp_path / "worker").read_text()))
        assert worker.is_running()
    answers = task.answers(CLIENTS)
    assert all(is_right(reply, answer, 1e-6) for reply, answer in zip(load.replies, answers, strict=False))
    psutil.wait_procs([worker], 10)
    assert not worker.is_running()


def test_one_that_ends_at_once_is_said_with_its_last_words(task: Task, small: Small) -> None:
    with (
        pytest.raises(EngineUnavailable, match="no batches of 16 here"),
        small().serving(task, Setup(1, 1, 16)),
    ):
        pass
