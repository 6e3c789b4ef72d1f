"""ONNX Runtime's own profile: each node of the graph with its time, summed up as tables (pure)."""

from __future__ import annotations

import gzip
import io
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from profiling.outcome import Found, Row, Table, ranked

TRACE = "onnxruntime.trace.json.gz"
MOST_ROWS = 20
_KERNEL = "_kernel_time"
_RUN = "model_run"


def read(files: Mapping[str, bytes], facts: Mapping[str, Any]) -> Found:
    """Tables of the trace, without the runs that warmed the session up."""
    with gzip.open(io.BytesIO(files[TRACE])) as stream:
        tables, runs = summarize(stream, int(facts["warm_up_runs"]))
    notes = [f"{runs} of {facts['seen']} batches ran with ONNX Runtime's profiler on"]
    if not runs:
        notes = ["no batch ran meanwhile: there is nothing to tell"]
    elif facts["seen"] > runs:
        notes[0] += ", evenly over the time: a longer trace would hold the process up when it is written"
    view = [f"open {{out}}/{TRACE} at https://ui.perfetto.dev or in chrome://tracing (nothing is uploaded)"]
    return Found(tables, files, view, notes)


def summarize(lines: Iterable[bytes], skip: int = 0) -> tuple[list[Table], int]:
    """By operator and by node, with what the runtime takes between them; and the number of runs.

    `lines` are those of ONNX Runtime's trace, an event in each; the first `skip` runs are left out.
    """
    runs = 0
    waiting: dict[int, list[dict[str, Any]]] = defaultdict(
        list
    )  # nodes of a thread whose run is still to end
    by_operator: dict[str, tuple[float, int, str]] = {}
    by_node: dict[str, tuple[float, int, str]] = {}
    run_s = nodes_s = 0.0
    for event in _events(lines):
        if event["cat"] == "Node" and event["name"].endswith(_KERNEL):
            waiting[event["tid"]].append(event)
        elif event["name"] == _RUN:
            nodes = waiting.pop(event["tid"], [])
            runs += 1
            if runs <= skip:
                continue
            run_s += event["dur"] / 1e6
            for node, taken_s in _own_seconds(nodes):
                args = node["args"]
                provider = args["provider"].removesuffix("ExecutionProvider")
                nodes_s += taken_s
                _add(by_operator, f"{args['op_name']} ({provider})", taken_s)
                shapes = f"{args['op_name']} {_shapes(args.get('input_type_shape'))}".strip()
                _add(by_node, node["name"].removesuffix(_KERNEL), taken_s, shapes)
    counted = max(0, runs - skip)
    operators = ranked(by_operator, run_s, MOST_ROWS)
    between_s = max(0.0, run_s - nodes_s)
    if counted:
        share = between_s / run_s if run_s else 0.0
        operators.append(Row("(between the nodes)", between_s, share, counted, "the runtime itself"))
    tables = [
        Table("Operators", operators, run_s),
        Table("Nodes", ranked(by_node, run_s, MOST_ROWS), run_s),
    ]
    return (tables if counted else []), counted


def _events(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """One by one: a whole trace as objects takes gigabytes."""
    for line in lines:
        text = line.strip().rstrip(b",")
        if text.startswith(b"{"):
            yield orjson.loads(text)


def _own_seconds(nodes: Iterable[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], float]]:
    """Each node of a thread, as they ended, with its time without that of the nodes in its own subgraphs."""
    ended: list[tuple[int, int]] = []  # start and length of those that may yet turn out to be within another
    for node in nodes:
        inner = 0
        while ended and ended[-1][0] >= node["ts"]:
            inner += ended.pop()[1]
        ended.append((node["ts"], node["dur"]))
        yield node, max(0, node["dur"] - inner) / 1e6


def _add(sums: dict[str, tuple[float, int, str]], name: str, seconds: float, detail: str = "") -> None:
    before = sums.get(name)
    if before is None:
        sums[name] = (seconds, 1, detail)
        return
    sums[name] = (before[0] + seconds, before[1] + 1, detail if detail == before[2] else _differ(before[2]))


def _differ(detail: str) -> str:
    """Batches differ in size: what is common to all is the operator."""
    return f"{detail.partition(' ')[0]} (several shapes)"


def _shapes(found: Any) -> str:
    """[{"float": [4, 16]}, {"int64": [4]}] as "4x16 4"."""
    shapes = [shape for entry in found or () for shape in entry.values()]
    return " ".join("x".join(map(str, shape)) or "scalar" for shape in shapes)
