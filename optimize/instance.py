"""One engine in a process of its own, as each gateway has one, told what to run through a pipe.

    python -m optimize.instance REPOSITORY NAME VERSION

Each line in is an `Order`, each line out what came of it.
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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import headrace.errors
from engines.artifact import Artifact, Repository
from engines.base import Engine
from engines.load import load
from headrace.config import BatchingConfig
from headrace.errors import EngineFailed, HeadraceError
from headrace.guard import guarded
from headrace.tensors import TensorMap
from optimize.demand import made_up
from optimize.saturate import Ran, saturate

_KEPT = 2  # engines of one process: the number of threads changes at every turn
_FIRST = 8  # requests that a new engine runs before it is measured
_PATIENCE_S = 120.0  # beyond the time of an order: loading, the last batch


@dataclass(frozen=True, slots=True)
class Order:
    """What one process is to do."""

    threads: int
    batching: dict[str, Any]
    sizes: list[dict[str, int]]  # of the requests
    waiting: int
    until: float  # of time.monotonic, which all processes share; 0: load the engine only


class Instance:
    """A process with an engine of this version; ended with the block. What lies in `first` is imported from
    there, such as another release of the engine's library."""

    def __init__(self, artifact: Artifact, first: Path | None = None) -> None:
        self._artifact = artifact
        self._paths = [*([str(first)] if first else []), *filter(None, sys.path)]

    def __enter__(self) -> Instance:
        manifest = self._artifact.manifest
        root = self._artifact.folder.parent.parent
        words = [sys.executable, "-m", "optimize.instance", str(root), manifest.name, manifest.version]
        self._log = tempfile.TemporaryFile(mode="w+", encoding="utf-8")
        self.process = subprocess.Popen(  # noqa: S603  our own module, no shell
            guarded(signal.SIGKILL, words),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(self._paths)},
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

    def tell(self, order: Order) -> None:
        assert self.process.stdin is not None
        line = json.dumps(asdict(order)).encode() + b"\n"
        try:
            while line:
                line = line[self.process.stdin.write(line) :]
        except BrokenPipeError as err:
            raise self._failed() from err

    def hear(self, until: float) -> Ran:
        """What came of the order; EngineFailed when the process died or says nothing."""
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
        return Ran(**told)

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
        self._engines: OrderedDict[int, Engine] = OrderedDict()  # by threads, the latest last
        self._requests: tuple[list[dict[str, int]], list[TensorMap]] = ([], [])

    def do(self, order: Order) -> Ran:
        signature = self._artifact.manifest.signature
        if self._requests[0] != order.sizes:
            self._requests = order.sizes, made_up(signature, order.sizes)
        requests = self._requests[1]
        engine = self._engine(order.threads, requests)
        if not order.until:
            return Ran(0, 0, 0, 0, 0.0)
        batching = BatchingConfig.model_validate(order.batching)
        return saturate(engine.run, signature, requests, batching, order.waiting, order.until)

    def _engine(self, threads: int, requests: list[TensorMap]) -> Engine:
        if threads not in self._engines:
            while len(self._engines) >= _KEPT:
                self._engines.popitem(last=False)[1].close()
            engine = load(self._artifact, threads)
            engine.warm_up()
            for inputs in requests[:_FIRST]:
                engine.run(inputs)
            self._engines[threads] = engine
        self._engines.move_to_end(threads)
        return self._engines[threads]


def main(root: str, name: str, version: str) -> None:
    # Answers alone go to the pipe, whatever a library prints.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    worker: _Worker | None = None
    for line in sys.stdin:
        try:
            worker = worker or _Worker(Repository(Path(root)).open(name, version))
            told = asdict(worker.do(Order(**json.loads(line))))
        except HeadraceError as err:
            told = {"error": type(err).__name__, "message": str(err)}
        answers.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
