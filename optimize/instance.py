"""One engine in a process of its own, as each gateway has one, told what to run through a pipe.

    python -m optimize.instance REPOSITORY NAME VERSION

Each line in is an `Order` or `Calls`, each line out what came of it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import OrderedDict
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import headrace.errors
from engines.artifact import Artifact, Repository
from engines.base import Engine
from engines.load import load
from headrace.config import BatchingConfig
from headrace.errors import EngineFailed, HeadraceError
from headrace.guard import guarded
from headrace.tensors import Signature, TensorMap
from optimize.demand import made_up
from optimize.saturate import Ran, saturate

_KEPT = 2  # engines of one process: the number of threads changes at every turn
_FIRST = 8  # requests that a new engine runs before it is measured
_MOST_CALLS = 1000  # of one turn
_ROOT = Path(__file__).resolve().parent.parent
_PATIENCE_S = 120.0  # beyond the time of an order: loading, the last batch


@dataclass(frozen=True, slots=True)
class Order:
    """What one process is to do."""

    threads: int  # of each batch; how many run at once is the batching's
    batching: dict[str, Any]
    sizes: list[dict[str, int]]  # of the requests
    waiting: int
    until: float  # of time.monotonic, which all processes share; 0: load the engine only


@dataclass(frozen=True, slots=True)
class Calls:
    """One whole batch of one shape, called over and over for so long, and at least once."""

    threads: int
    sizes: dict[str, int]  # of a row
    batch: int  # rows
    seconds: float


@dataclass(frozen=True, slots=True)
class Timed:
    """What each call took, the first left out: the other process has had the CPU's caches before it."""

    calls_s: list[float]


class Instance:
    """A process with an engine of this version; ended with the block.

    `python` is the interpreter of another environment, with other versions of the libraries.
    """

    def __init__(self, artifact: Artifact, python: Path | None = None) -> None:
        self._artifact = artifact
        self._python = python

    def __enter__(self) -> Instance:
        manifest = self._artifact.manifest
        root = self._artifact.folder.parent.parent
        python = str(self._python or sys.executable)
        words = [python, "-m", "optimize.instance", str(root.resolve()), manifest.name, manifest.version]
        sources = [str(_ROOT)] if self._python else sys.path  # the rest is that environment's own
        self._log = tempfile.TemporaryFile(mode="w+", encoding="utf-8")
        self.process = subprocess.Popen(  # noqa: S603  our own module, no shell
            guarded(signal.SIGKILL, words),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sources))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            bufsize=0,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self._log):
            if stream is not None:
                stream.close()

    def tell(self, order: Order | Calls) -> None:
        assert self.process.stdin is not None
        line = json.dumps({type(order).__name__: asdict(order)}).encode() + b"\n"
        try:
            while line:
                line = line[self.process.stdin.write(line) :]
        except BrokenPipeError as err:
            raise self._failed() from err

    def hear(self, until: float) -> Ran:
        """What came of the order; EngineFailed when the process died or says nothing."""
        return Ran(**self._hear(until))

    def time(self, calls: Calls) -> Timed:
        """What the calls took; EngineFailed likewise."""
        self.tell(calls)
        return Timed(**self._hear(time.monotonic() + calls.seconds))

    def run(self, order: Order, seconds: float) -> Ran:
        """What comes of the order in so many seconds from now; EngineFailed likewise."""
        until = time.monotonic() + seconds
        self.tell(replace(order, until=until))
        return self.hear(until)

    def _hear(self, until: float) -> dict[str, Any]:
        assert self.process.stdout is not None
        data = b""
        deadline = max(until, time.monotonic()) + _PATIENCE_S
        while not data.endswith(b"\n"):
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise EngineFailed(f"the engine gave no answer within {_PATIENCE_S:g} s")
            chunk = self.process.stdout.read(1 << 16)
            if not chunk:
                raise self._failed()
            data += chunk
        told = json.loads(data)
        if "error" in told:
            raise getattr(headrace.errors, told["error"], EngineFailed)(told["message"])
        return dict(told)

    def _failed(self) -> EngineFailed:
        status = self.process.wait()
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
        self._log.seek(0)
        said = self._log.read().strip().splitlines()[-1:]
        return EngineFailed(": ".join([f"the engine's process ended with {how}", *said]))


class _Worker:
    """The other side of the pipe."""

    def __init__(self, artifact: Artifact) -> None:
        self._artifact = artifact
        self._engines: OrderedDict[tuple[int, int], Engine] = OrderedDict()  # by threads and streams
        self._requests: tuple[list[dict[str, int]], list[TensorMap]] = ([], [])

    def do(self, order: Order) -> Ran:
        signature = self._artifact.manifest.signature
        if self._requests[0] != order.sizes:
            self._requests = order.sizes, made_up(signature, order.sizes)
        requests = self._requests[1]
        batching = BatchingConfig.model_validate(order.batching)
        engine = self._engine(order.threads, batching.permits, requests)
        if not order.until:
            return Ran(0, 0, 0, 0, 0.0)
        return saturate(engine.run, signature, requests, batching, order.waiting, order.until)

    def time(self, calls: Calls) -> Timed:
        signature = self._artifact.manifest.signature
        (row,) = made_up(signature, [calls.sizes])
        engine = self._engine(calls.threads, 1, [row])
        batch = _repeated(signature, row, calls.batch)
        engine.run(batch)
        found: list[float] = []
        began = now = time.perf_counter()
        while not found or (now < began + calls.seconds and len(found) < _MOST_CALLS):
            before = now
            engine.run(batch)
            now = time.perf_counter()
            found.append(now - before)
        return Timed(found)

    def _engine(self, threads: int, streams: int, requests: list[TensorMap]) -> Engine:
        key = threads, streams
        if key not in self._engines:
            while len(self._engines) >= _KEPT:
                self._engines.popitem(last=False)[1].close()
            engine = load(self._artifact, threads, streams)
            engine.warm_up()
            for inputs in requests[:_FIRST]:
                engine.run(inputs)
            self._engines[key] = engine
        self._engines.move_to_end(key)
        return self._engines[key]


def _repeated(signature: Signature, row: TensorMap, batch: int) -> TensorMap:
    if batch == 1 or not signature.is_batchable:
        return row
    return {name: np.repeat(array, batch, axis=0) for name, array in row.items()}


def main(root: str, name: str, version: str) -> None:
    # Answers alone go to the pipe, whatever a library prints.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    worker: _Worker | None = None
    for line in sys.stdin:
        try:
            worker = worker or _Worker(Repository(Path(root)).open(name, version))
            told = asdict(_done(worker, json.loads(line)))
        except HeadraceError as err:
            told = {"error": type(err).__name__, "message": str(err)}
        answers.write(json.dumps(told) + "\n")


def _done(worker: _Worker, told: dict[str, dict[str, Any]]) -> Ran | Timed:
    if "Calls" in told:
        return worker.time(Calls(**told["Calls"]))
    return worker.do(Order(**told["Order"]))


if __name__ == "__main__":
    main(*sys.argv[1:])
