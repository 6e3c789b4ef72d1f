"""ONNX Runtime's trace, summed up: of traces by hand, and of real ones."""

from __future__ import annotations

import json
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest

from engines.artifact import Artifact
from engines.load import load
from engines.ort import OrtEngine
from headrace.errors import CallerError
from profiling.ort import read, summarize
from profiling.ort_tool import OrtTool, StandIn
from profiling.outcome import Raw
from tests.onnx_models import publish_all


def run(dur: int, ts: int, tid: int = 1) -> dict[str, object]:
    return {"cat": "Session", "name": "model_run", "dur": dur, "ts": ts, "tid": tid, "args": {}}


def node(name: str, op: str, dur: int, ts: int, tid: int = 1) -> dict[str, object]:
    args = {"op_name": op, "provider": "CPUExecutionProvider", "input_type_shape": [{"float": [4, 16]}]}
    return {"cat": "Node", "name": f"{name}_kernel_time", "dur": dur, "ts": ts, "tid": tid, "args": args}


def lines(*events: dict[str, object]) -> list[bytes]:
    return [b"[", *(json.dumps(event).encode() + b"," for event in events), b"]"]


def test_shares_are_of_the_runs_and_what_is_between_the_nodes_is_told() -> None:
    tables, runs = summarize(lines(node("a", "MatMul", 600, 10), node("b", "Add", 300, 620), run(1000, 0)))
    operators = {row.name: row for row in tables[0].rows}
    assert runs == 1
    assert operators["MatMul (CPU)"].share == pytest.approx(0.6)
    assert operators["(between the nodes)"].seconds == pytest.approx(100e-6)
    assert [(row.name, row.detail) for row in tables[1].rows] == [("a", "MatMul 4x16"), ("b", "Add 4x16")]


def test_runs_that_warmed_up_are_left_out() -> None:
    cold = [node("a", "MatMul", 9000, 0), run(9500, 0)]
    warm = [node("a", "MatMul", 100, 10_000), run(120, 10_000)]
    tables, runs = summarize(lines(*cold, *warm), skip=1)
    assert (runs, tables[0].total_s) == (1, pytest.approx(120e-6))


def test_runs_of_several_threads_keep_apart() -> None:
    tables, runs = summarize(
        lines(
            node("a", "MatMul", 50, 0, tid=1),
            node("a", "MatMul", 70, 0, tid=2),
            run(60, 0, tid=1),
            run(80, 0, tid=2),
        )
    )
    assert (runs, tables[1].rows[0].calls) == (2, 2)
    assert tables[1].rows[0].seconds == pytest.approx(120e-6)


def test_a_node_with_a_graph_of_its_own_is_counted_once() -> None:
    tables, _ = summarize(lines(node("inner", "Add", 80, 110), node("loop", "Loop", 100, 100), run(200, 50)))
    assert {row.name: row.seconds for row in tables[1].rows} == {
        "inner": pytest.approx(80e-6),
        "loop": pytest.approx(20e-6),
    }


def test_a_trace_without_runs_has_no_tables() -> None:
    assert summarize(lines()) == ([], 0)


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return publish_all(tmp_path_factory.mktemp("models")).open("slow", "1")


def batch() -> dict[str, np.ndarray]:
    return {"x": np.ones((1, 3), np.float32)}


def test_a_real_profile_is_taken_of_the_batches_that_run_meanwhile(slow: Artifact) -> None:
    ordinary = load(slow, 1)
    tool = OrtTool(slow, 1, is_live=True)
    running = tool.begin(ordinary, 5.0)
    expected = ordinary.run(batch())
    for _ in range(3):
        np.testing.assert_array_equal(running.run(batch())["y"], expected["y"])
    raw = tool.end()
    found = read(raw.files, raw.facts)
    assert raw.facts["ran"] == raw.facts["seen"] == 3
    assert "MatMul (CPU)" in [row.name for row in found.tables[0].rows]
    assert found.tables[1].rows[0].calls >= 3
    assert sum(row.share for row in found.tables[0].rows) == pytest.approx(1, abs=0.02)


def test_a_thread_that_still_holds_the_stand_in_is_served_by_the_ordinary_engine(slow: Artifact) -> None:
    ordinary = load(slow, 1)
    tool = OrtTool(slow, 1, is_live=True)
    held = tool.begin(ordinary, 5.0)
    tool.end()
    assert held.run(batch())["y"].shape == (1, 3)


def test_a_refused_profile_removes_nothing(
    slow: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "of-somebody-else").write_text("kept")
    manifest = slow.manifest.model_copy(update={"engine": "openvino"})
    tool = OrtTool(Artifact(slow.folder, manifest, slow.digest), 1, is_live=True)
    with pytest.raises(CallerError, match="runs on openvino"):
        tool.begin(load(slow, 1), 1.0)
    assert tool.end() == Raw()
    assert [file.name for file in tmp_path.iterdir()] == ["of-somebody-else"]


def test_nothing_is_left_of_a_profile(
    slow: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    tool = OrtTool(slow, 1, is_live=True)
    tool.begin(load(slow, 1), 1.0).run(batch())
    assert tool.end().files
    assert list(tmp_path.iterdir()) == []


def test_profiled_batches_are_spread_over_the_time(slow: Artifact) -> None:
    ordinary = load(slow, 1)
    stand_in = StandIn(ordinary, ordinary, most=100, seconds=1e6)
    for _ in range(5):
        stand_in.run(batch())
    assert (stand_in.seen, stand_in.ran) == (5, 1)


def test_it_ends_when_the_batches_that_run_have_ended(slow: Artifact) -> None:
    started, may_end = threading.Event(), threading.Event()

    class Held(OrtEngine):
        def run(self, batch, outputs=()):  # type: ignore[no-untyped-def]
            started.set()
            may_end.wait(10)
            return super().run(batch, outputs)

    stand_in = StandIn(load(slow, 1), Held(slow, 1), most=10, seconds=1.0)
    answers: list[object] = []
    running = threading.Thread(target=lambda: answers.append(stand_in.run(batch())))
    running.start()
    assert started.wait(10)
    stopping = threading.Thread(target=stand_in.stop)
    stopping.start()
    stopping.join(0.05)
    assert stopping.is_alive()
    may_end.set()
    stopping.join(10)
    running.join(10)
    assert len(answers) == 1
    assert not stopping.is_alive()
