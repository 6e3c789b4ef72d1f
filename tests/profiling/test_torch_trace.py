"""torch's trace: real ones of several threads, and own times by hand."""

from __future__ import annotations

import gzip
import threading
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from engines.load import load
from profiling.torch_tool import TorchTool
from profiling.torch_trace import TRACE, own_seconds, read, stripped, summarize
from tests.onnx_models import publish_all

torch = pytest.importorskip("torch")


def operator(name: str, ts: float, dur: float, tid: int = 1) -> dict[str, Any]:
    return {"ph": "X", "cat": "cpu_op", "name": name, "pid": 1, "tid": tid, "ts": ts, "dur": dur}


def test_an_operator_is_counted_without_what_it_calls() -> None:
    events = [operator("linear", 0, 100), operator("addmm", 10, 80), operator("copy", 20, 5)]
    assert {event["name"]: own for event, own in own_seconds(events)} == {
        "linear": pytest.approx(20e-6),
        "addmm": pytest.approx(75e-6),
        "copy": pytest.approx(5e-6),
    }


def test_what_ends_before_another_begins_is_not_within_it() -> None:
    events = [operator("a", 0, 10), operator("b", 10, 10), operator("c", 0, 30, tid=2)]
    (table,) = summarize(events)
    assert {row.name: row.seconds for row in table.rows} == {
        "a": pytest.approx(10e-6),
        "b": pytest.approx(10e-6),
        "c": pytest.approx(30e-6),
    }
    assert sum(row.share for row in table.rows) == pytest.approx(1)


def test_operators_of_other_threads_are_seen_with_their_shapes_and_steps(tmp_path: Path) -> None:
    engine = load(publish_all(tmp_path).open("double", "1"), 1)
    tool = TorchTool()
    started, done = threading.Event(), threading.Event()

    def work() -> None:
        layer = torch.nn.Linear(64, 64)
        while not done.is_set():
            with tool.ranges.within("engine"):
                layer(torch.ones(4, 64))
            started.set()

    thread = threading.Thread(target=work)
    thread.start()
    assert tool.begin(engine, 1.0) is engine
    for _ in range(3):  # the first that ends may have begun before the profile
        started.clear()
        assert started.wait(10)
    assert not tool.is_enough()
    raw = tool.end()
    done.set()
    thread.join()
    found = read(raw.files, raw.facts)
    tables = {table.title: table for table in found.tables}
    assert "engine" in [row.name for row in tables["Steps"].rows]
    (addmm,) = [row for row in tables["Operators"].rows if row.name == "aten::addmm"]
    assert "64x64" in addmm.detail


def test_no_value_of_an_operator_is_kept(tmp_path: Path) -> None:
    tool = TorchTool()
    engine = load(publish_all(tmp_path).open("double", "1"), 1)
    tool.begin(engine, 1.0)
    torch.add(torch.ones(3), torch.ones(3), alpha=31415)
    torch.full((2,), 27182.0)
    engine.run({"x": np.ones((1, 3), np.float32)})
    trace = gzip.decompress(tool.end().files[TRACE])
    assert b"aten::full" in trace
    assert not any(text in trace for text in (b"Concrete Inputs", b"31415", b"27182"))
    assert orjson.loads(trace)["traceEvents"]


def test_values_with_brackets_and_quotes_are_left_out_whole(tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    file.write_text(
        '{"args": {"a": 1, "Concrete Inputs": ["[1, 2]", "", "x\\"y]"], "Input Dims": [[1]]}, '
        '"more": {"Concrete Inputs": ["7"], "b": 2}}'
    )
    assert orjson.loads(gzip.decompress(stripped(file))) == {
        "args": {"a": 1, "Input Dims": [[1]]},
        "more": {"b": 2},
    }


def test_a_tool_that_did_not_begin_leaves_nothing() -> None:
    assert TorchTool().end().files == {}
