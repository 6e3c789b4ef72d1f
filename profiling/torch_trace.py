"""torch.profiler's trace: without values, and as tables (pure)."""

from __future__ import annotations

import gzip
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson

from profiling.outcome import Found, Table, ranked

TRACE = "torch.trace.json.gz"
MOST_ROWS = 20
_VALUES = re.compile(rb'"Concrete Inputs": \[(?:[^\]"\\]|"(?:[^"\\]|\\.)*"|\\.)*\],? ?')
_OPERATORS = ("cpu_op", "kernel", "gpu_memcpy", "gpu_memset")
_RANGE = "user_annotation"


def stripped(file: Path) -> bytes:
    """The trace as gzip, without the values that torch notes of numbers which operators were called with."""
    return gzip.compress(_VALUES.sub(b"", file.read_bytes()), 3)


def read(files: Mapping[str, bytes], facts: Mapping[str, Any]) -> Found:
    """Tables of the trace: operators, and the steps of batches."""
    events = orjson.loads(gzip.decompress(files[TRACE]))["traceEvents"]
    view = [f"open {{out}}/{TRACE} at https://ui.perfetto.dev or in chrome://tracing (nothing is uploaded)"]
    tables = summarize(events)
    notes = [] if tables else ["nothing ran meanwhile: there is nothing to tell"]
    if tables and not any(table.title == "Operators" for table in tables):
        notes.append("the engine is not torch's: the trace shows batches and their steps, no operators")
    return Found(tables, files, view, notes)


def summarize(events: Iterable[Mapping[str, Any]]) -> list[Table]:
    """Own time of each operator by its shapes, with the memory that it took; and of each step of a batch."""
    whole = [event for event in events if event.get("ph") == "X"]
    tables = []
    ranges = [event for event in whole if event.get("cat") == _RANGE]
    operators = [event for event in whole if event.get("cat") in _OPERATORS]
    for title, some in (("Steps", ranges), ("Operators", operators)):
        sums: dict[str, tuple[float, int, str]] = {}
        for event, own_s in own_seconds(some):
            args = event.get("args", {})
            detail = _shapes(args.get("Input Dims"))
            seconds, calls, known = sums.get(event["name"], (0.0, 0, detail))
            sums[event["name"]] = (
                seconds + own_s,
                calls + 1,
                known if known == detail else "several shapes",
            )
        total_s = sum(seconds for seconds, _, _ in sums.values())
        if sums:
            tables.append(Table(title, ranked(sums, total_s, MOST_ROWS), total_s))
    return tables


def own_seconds(events: Iterable[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], float]]:
    """Each event with its time less that of the events within it, on its own thread."""
    by_thread: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    for event in events:
        by_thread[event.get("pid"), event.get("tid")].append(event)
    found: list[tuple[Mapping[str, Any], float]] = []
    for some in by_thread.values():
        own = [float(event["dur"]) for event in some]
        order = sorted(range(len(some)), key=lambda n: (some[n]["ts"], -some[n]["dur"]))
        around: list[int] = []
        for n in order:
            while around and some[around[-1]]["ts"] + some[around[-1]]["dur"] <= some[n]["ts"]:
                around.pop()
            if around:
                own[around[-1]] -= some[n]["dur"]
            around.append(n)
        found += [(event, max(0.0, us) / 1e6) for event, us in zip(some, own, strict=True)]
    return found


def _shapes(dims: Any) -> str:
    """[[4, 64], [64], []] as "4x64 64"."""
    return " ".join("x".join(map(str, dim)) for dim in dims or () if dim and not isinstance(dim[0], list))
