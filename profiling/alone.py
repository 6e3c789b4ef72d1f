"""A version profiled alone, in this process: made-up inputs of its own shapes, one batch after the other."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, Sequence

from engines.artifact import Artifact
from engines.base import Engine
from engines.examples import example_inputs
from engines.load import load
from engines.manifest import Manifest
from headrace.errors import CallerError
from headrace.tensors import Array
from profiling.outcome import Raw, Taken
from profiling.probe import Probe
from profiling.tools import make


def take(artifact: Artifact, tool_name: str, seconds: float, threads: int) -> Taken:
    """What a tool finds while the engine runs for `seconds`. CallerError for Python code, whose inputs cannot
    be made up; what `profiling.tools.make` raises."""
    manifest = artifact.manifest
    if manifest.engine == "python":
        raise CallerError(
            f"'{manifest.name}/{manifest.version}' is Python code, whose inputs cannot be made up; serve it "
            f"and profile it under its traffic: headrace profile {manifest.name} --with {tool_name}"
        )
    tool = make(tool_name, artifact, threads, seconds, is_live=False)
    engine = load(artifact, threads)
    batches = [example_inputs(manifest.signature, sizes, seed=n) for n, sizes in enumerate(shapes(manifest))]
    for batch in batches:
        engine.run(batch)
    try:
        running = tool.begin(engine, seconds)
        probe = Probe(tool.ranges)
        started = time.monotonic()
        while time.monotonic() - started < seconds and not tool.is_enough():
            _run_each(running, batches, probe)
        passed_s = time.monotonic() - started
    finally:
        raw: Raw = tool.end()
    process = {"kind": "alone", "node": socket.gethostname(), "pid": os.getpid()}
    notes = [f"alone, with made-up inputs: {_told(manifest)}", *raw.notes]
    return Taken(
        passed_s,
        probe.traffic(passed_s).told(),
        probe.timeline(passed_s),
        process,
        raw.facts,
        raw.files,
        notes,
    )


def shapes(manifest: Manifest) -> list[dict[str, int]]:
    """Sizes of variable dimensions that the manifest knows of: what warms it up, and what was measured."""
    known = [dict(sizes) for sizes in manifest.warm_up]
    known += [{**entry.sizes, "batch": entry.batch} for entry in manifest.latencies]
    found: list[dict[str, int]] = []
    for sizes in known or [{"batch": 1}]:
        if sizes not in found:
            found.append(sizes)
    return found


def _run_each(engine: Engine, batches: Sequence[Mapping[str, Array]], probe: Probe) -> None:
    """Each batch once, as one request."""
    run = probe.mark("batch", probe.mark("engine", engine.run))
    for batch in batches:
        started = time.perf_counter()
        with probe.request():
            run(batch)
        rows = len(next(iter(batch.values()), ()))
        probe.batch(rows, 1.0, time.perf_counter() - started)


def _told(manifest: Manifest) -> str:
    return "; ".join(
        " ".join(f"{dim}={size}" for dim, size in sizes.items()) or "fixed" for sizes in shapes(manifest)
    )
