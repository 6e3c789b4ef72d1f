"""Profiles of a real server under real load: no request fails, and nothing stays switched on."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deployments.load import infer_request
from deployments.versions import GATEWAY_APP
from headrace.errors import CallerError, Conflict, NotFound, ToolFailed
from tests.conftest import Running
from tests.processes import headrace

SECONDS = 2.0


@contextmanager
def asked(running: Running, model: str) -> Iterator[list[int]]:
    """Requests, four at a time and none like another, while the block runs; the failures of each round."""
    failures: list[int] = []
    done = threading.Event()

    def ask() -> None:
        n = 0
        while not done.is_set():
            n += 16
            requests = [infer_request("test", model, inputs(model, n + k)) for k in range(16)]
            failures.append(running.ask(requests, 4).num_failed)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield failures
    finally:
        done.set()
        thread.join()


def inputs(model: str, n: int) -> dict[str, np.ndarray]:
    if model == "minilm":
        ids = np.array([[101, 1000 + n % 20_000, 2000 + n // 7 % 20_000, 102]])
        return {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    return {"x": np.full((1, 3), n, np.float32)}


def profiled(running: Running, out: Path, *arguments: str) -> dict[str, Any]:
    done = headrace(
        "profile",
        *arguments,
        "--seconds",
        f"{SECONDS:g}",
        "--address",
        running.server.ray_address,
        "--out",
        str(out),
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads((out / "profile.json").read_text())
    assert found["traffic"]["requests"] > 0
    assert found["traffic"]["failed"] == 0
    return found


def gateway() -> Any:
    from ray import serve

    return serve.get_app_handle(GATEWAY_APP)


def test_nodes_of_a_served_graph_are_timed_and_no_request_fails(running: Running, tmp_path: Path) -> None:
    with asked(running, "minilm") as failures:
        found = profiled(running, tmp_path, "minilm", "--with", "ort")
        again = profiled(running, tmp_path, "minilm", "--with", "ort")
    assert sum(failures) == 0
    operators, nodes = found["tables"]
    assert "MatMul (CPU)" in [row["name"] for row in operators["rows"]]
    assert sum(row["share"] for row in operators["rows"]) == pytest.approx(1, abs=0.05)
    assert nodes["rows"][0]["calls"] > 1
    assert (tmp_path / "onnxruntime.trace.json.gz").stat().st_size > 1000
    assert found["process"]["kind"] == "gateway"
    assert again["tables"]


def test_a_replica_is_profiled_where_it_runs(running: Running, tmp_path: Path) -> None:
    with asked(running, "far") as failures:
        found = profiled(running, tmp_path, "far", "--with", "ort")
    assert sum(failures) == 0
    assert found["process"]["kind"] == "replica"
    assert found["tables"]


def test_the_trace_of_torch_shows_the_steps_of_batches(running: Running, tmp_path: Path) -> None:
    with asked(running, "double") as failures:
        found = profiled(running, tmp_path, "double", "--with", "tensorboard")
    assert sum(failures) == 0
    steps = {row["name"] for row in found["tables"][0]["rows"]}
    assert {"batch", "stack", "engine", "split"} <= steps
    names = [file.name for file in (tmp_path / "logs").iterdir()]
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert any(name.endswith(".pt.trace.json.gz") for name in names)
    assert not any("Concrete" in line for line in map(str, found["tables"]))


def test_a_flame_graph_is_of_the_process_that_answers(running: Running, tmp_path: Path) -> None:
    with asked(running, "double") as failures:
        done = headrace(
            *("profile", "double", "--with", "py-spy", "--seconds", "2"),
            *("--address", running.server.ray_address, "--out", str(tmp_path)),
        )
    assert sum(failures) == 0
    if done.returncode == 4 and "ptrace" in done.stderr:
        pytest.skip("this kernel lets no process trace another")
    assert done.returncode == 0, done.stderr
    assert "batching/threads.py" in (tmp_path / "py-spy.svg").read_text()


def test_one_process_has_one_profile_at_a_time(running: Running) -> None:
    count = running.server.config.gateways + 1  # two of these meet in a gateway
    with ThreadPoolExecutor(count) as threads:
        profiles = [
            threads.submit(gateway().profile.remote("double", None, "ort", 3.0).result, timeout_s=60)
            for _ in range(count)
        ]
    errors = [err for profile in profiles if (err := profile.exception()) is not None]
    assert 1 <= len(errors) < count
    assert all(isinstance(err, Conflict) for err in errors)


def test_when_who_asked_leaves_it_is_switched_off(running: Running) -> None:
    import time

    leaving = gateway().profile.remote("double", None, "ort", 600.0)
    time.sleep(2)
    leaving.cancel()
    with pytest.raises(Exception):  # noqa: B017, PT011  what Ray makes of a cancelled call
        leaving.result(timeout_s=10)
    until = time.monotonic() + 20
    while True:
        try:
            found = gateway().profile.remote("double", None, "ort", 1.0).result(timeout_s=60)
            break
        except Conflict:
            assert time.monotonic() < until
            time.sleep(0.2)
    assert found["seconds"] == pytest.approx(1, abs=0.5)


def test_without_traffic_it_says_what_to_do(running: Running, tmp_path: Path) -> None:
    done = headrace(
        *("profile", "slow", "--with", "ort", "--seconds", "1"),
        *("--address", running.server.ray_address, "--out", str(tmp_path)),
    )
    assert done.returncode == 0, done.stderr
    assert "no request came meanwhile" in done.stdout


def test_what_cannot_be_profiled_is_refused_with_the_reason(running: Running) -> None:
    def profile(*arguments: Any) -> Any:
        return gateway().profile.remote(*arguments).result(timeout_s=60)

    with pytest.raises(NotFound, match="served here"):
        profile("nobody", None, "ort", 1.0)
    with pytest.raises(CallerError, match="there are: ort, torch"):
        profile("double", None, "perf", 1.0)
    with pytest.raises(CallerError, match="within 1 and 600"):
        profile("double", None, "ort", 601.0)
    with pytest.raises(CallerError, match="one of its steps: letters, double"):
        profile("text", None, "ort", 1.0)
    with pytest.raises(CallerError, match="runs on python"):
        profile("letters", None, "ort", 1.0)
    with pytest.raises(CallerError, match="runs on python"):
        profile("far_letters", None, "ort", 1.0)


@pytest.mark.parametrize("tool", ["nsight", "vtune"])
def test_a_missing_tool_is_named_with_how_to_get_it(running: Running, tool: str) -> None:
    for model in ("double", "far"):
        with pytest.raises(ToolFailed, match="apt-get install") as caught:
            gateway().profile.remote(model, None, tool, 1.0).result(timeout_s=60)
        assert "headrace" in str(caught.value)
