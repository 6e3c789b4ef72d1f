"""What is sent to other servers, and which answers are right."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from benchmarks.servers.base import Setup, Task, all_setups, is_right, raw_requests
from benchmarks.servers.programs.raw_model import VARIABLE, Wire
from deployments.load import Reply


def reply(body: bytes, status: int = 200, **headers: str) -> Reply:
    return Reply(status, 0.1, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def test_a_request_is_the_bytes_of_its_row(task: Task) -> None:
    head, _, body = raw_requests("/there", "a: b\r\n")(task)[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /there HTTP/1.1\r\n")
    assert b"\r\na: b\r\n" in head
    assert body == task.requests[0]["x"].tobytes()


def test_every_set_up_spends_the_same_threads() -> None:
    setups = all_setups()
    assert {setup.workers * setup.threads for setup in setups} == {2}
    assert len(set(setups)) == 6
    assert str(Setup(2, 1, 1)) == "2 x 1 threads, no batching"
    assert str(Setup(1, 2, 8, permits=2)) == "1 x 2 threads, batches of 8, 2 permits"


def test_a_program_reads_the_wire_that_was_written(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = task.wire(Setup(1, 2, 8))
    assert (wire.shape, wire.dtype, wire.threads, wire.batch) == ((-1,), "float32", 2, 8)
    (tmp_path / "wire.json").write_text(json.dumps(asdict(wire)))
    monkeypatch.setenv(VARIABLE, str(tmp_path / "wire.json"))
    assert Wire.from_environment() == wire


def test_an_answer_is_right_within_the_tolerance() -> None:
    expected = np.array([1.0, 2.0], np.float32)
    near = (expected + 1e-4).astype(np.float32).tobytes()
    assert is_right(reply(near), expected, 1e-3)
    assert not is_right(reply(near), expected, 1e-5)
    assert is_right(reply(b"{json}" + near, inference_header_content_length="6"), expected, 1e-3)
    assert not is_right(reply(near, status=500), expected, 1e-3)
    assert not is_right(reply(near[:4]), expected, 1e-3)


def test_one_class_of_a_hundred_may_be_another() -> None:
    expected = np.arange(100)
    found = expected.copy()
    found[7] = 0
    assert is_right(reply(found.tobytes()), expected, 0)
    found[8] = 0
    assert not is_right(reply(found.tobytes()), expected, 0)
