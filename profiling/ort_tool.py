"""ONNX Runtime profiles only a session that was made for it: a second one runs some of the batches."""

from __future__ import annotations

import gzip
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from engines.artifact import Artifact
from engines.base import Engine
from headrace.errors import CallerError, ToolFailed
from headrace.room import available_bytes
from headrace.tensors import Array, Signature, TensorMap
from profiling.ort import TRACE
from profiling.outcome import Raw

if TYPE_CHECKING:
    from engines.ort import OrtEngine

LIVE_EVENTS = 25_000  # writing them stops a process for an eighth of a second
ALONE_EVENTS = 200_000  # 200 MB
_PER_RUN = 2  # events of a run besides those of its nodes
_IDLE_S = 60.0
_MEMORY = 3  # times the graph's size, while it is loaded


class StandIn:
    """Runs evenly spread batches in the profiled engine, and the others in the ordinary one.

    `stop` waits for those that run; whoever calls later is given to the ordinary engine, so that a thread
    that has hold of this one may use it as long as it likes.
    """

    def __init__(self, ordinary: Engine, profiled: Engine, most: int, seconds: float) -> None:
        self._ordinary, self._profiled = ordinary, profiled
        self._most, self._seconds = most, seconds
        self._change = threading.Condition()
        self._running = 0
        self._is_over = False
        self._started = time.monotonic()
        self.ran = 0
        self.seen = 0

    @property
    def signature(self) -> Signature:
        return self._ordinary.signature

    def warm_up(self) -> None:
        """Nothing: both are warm."""

    def run(self, batch: TensorMap, outputs: tuple[str, ...] = ()) -> dict[str, Array]:
        if not self._take():
            return self._ordinary.run(batch, outputs)
        try:
            return self._profiled.run(batch, outputs)
        finally:
            with self._change:
                self._running -= 1
                self._change.notify_all()

    def stop(self) -> None:
        """From now on the profiled engine is left alone. ToolFailed when it hangs."""
        with self._change:
            self._is_over = True
            if not self._change.wait_for(lambda: not self._running, _IDLE_S):
                raise ToolFailed(f"a batch has run for more than {_IDLE_S:.0f} s; its profile is given up")

    def close(self) -> None:
        self.stop()
        self._ordinary.close()

    def _take(self) -> bool:
        with self._change:
            if self._is_over:
                return False
            self.seen += 1
            passed = min(1.0, (time.monotonic() - self._started) / self._seconds)
            if self.ran >= self._most or self.ran > self._most * passed:
                return False
            self.ran += 1
            self._running += 1
            return True


class OrtTool:
    """A second session of the same artifact with the profiler on; see profiling.tools.Tool.

    CallerError for other engines, ToolFailed where there is no memory for a second one.
    """

    ranges = None

    def __init__(self, artifact: Artifact, threads: int, *, is_live: bool) -> None:
        self._artifact, self._threads = artifact, threads
        self._events = LIVE_EVENTS if is_live else ALONE_EVENTS
        self._folder: tempfile.TemporaryDirectory[str] | None = None  # only ever one of our own making
        self._stand_in: StandIn | None = None

    def begin(self, engine: Engine, seconds: float) -> Engine:
        manifest = self._artifact.manifest
        if manifest.engine != "onnxruntime":
            raise CallerError(
                f"'{manifest.name}/{manifest.version}' runs on {manifest.engine}; --with ort is for "
                "onnxruntime. Use --with torch or --with py-spy"
            )
        _check_memory(_MEMORY * manifest.size_bytes())
        from engines.ort import OrtEngine

        self._folder = tempfile.TemporaryDirectory(prefix="headrace-profile-")
        self._engine: OrtEngine = OrtEngine(
            self._artifact, self._threads, profile_to=Path(self._folder.name) / "ort"
        )
        self._engine.warm_up()
        most = max(1, self._events // (_num_nodes(self._artifact) + _PER_RUN))
        self._stand_in = StandIn(engine, self._engine, most, seconds)
        return self._stand_in

    def is_enough(self) -> bool:
        return False

    def end(self) -> Raw:
        try:
            if self._stand_in is None:
                return Raw()
            self._stand_in.stop()
            data = gzip.compress(self._engine.end_profiling().read_bytes(), 3)
            facts = {
                "warm_up_runs": len(self._artifact.manifest.warm_up),
                "ran": self._stand_in.ran,
                "seen": self._stand_in.seen,
            }
            return Raw({TRACE: data}, facts)
        finally:
            if self._folder is not None:
                self._folder.cleanup()
                self._folder = None


def _num_nodes(artifact: Artifact) -> int:
    """Of the graph as it was published: the optimized one, which is profiled, has fewer."""
    import onnx

    return len(onnx.ModelProto.FromString(artifact.read(artifact.manifest.graph)).graph.node)


def _check_memory(needed: int) -> None:
    free = available_bytes()
    if free < needed:
        raise ToolFailed(
            f"a second engine needs up to {needed >> 20} MiB and {free >> 20} MiB are free; profile the "
            "version alone, on a machine with more memory: headrace profile MODEL --repository DIR"
        )
