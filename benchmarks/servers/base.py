"""What a benchmark knows of a server: its set-ups, how it is started with one, the bytes of requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from benchmarks.servers.programs.raw_model import Wire
from deployments.load import Reply
from engines.artifact import Artifact
from engines.load import load
from headrace.tensors import Array, TensorMap

HOST = "127.0.0.1"
THREADS = 2  # of engines in all, for every server
# What is tried of each server: both ways to spend the threads, with and without batching.
SETUPS = tuple((workers, THREADS // workers, batch) for workers in (1, THREADS) for batch in (1, 8, 16))


@dataclass(frozen=True, slots=True)
class Setup:
    workers: int
    threads: int  # of each worker's engine
    batch: int  # rows at most; 1: no batching
    permits: int = 1  # batches in a worker's engine at the same time; Headrace only

    def __str__(self) -> str:
        batching = f"batches of {self.batch}" if self.batch > 1 else "no batching"
        permits = f", {self.permits} permits" if self.permits > 1 else ""
        return f"{self.workers} x {self.threads} threads, {batching}{permits}"


@dataclass(frozen=True, slots=True)
class Task:
    """One model and the requests for it, each of one row, in the order in which they arrive."""

    artifact: Artifact
    requests: Sequence[TensorMap]
    tensor: str  # the input that is sent
    output: str
    mask: str = ""  # the input that is all ones, if the model has one
    is_tuned: bool = True  # False: other servers run the engine with its defaults

    def row(self, inputs: TensorMap) -> Array:
        row: Array = inputs[self.tensor][0]
        return row

    def wire(self, setup: Setup) -> Wire:
        """The same file, threads and session options for every server."""
        manifest = self.artifact.manifest
        (spec,) = (spec for spec in manifest.signature.inputs if spec.name == self.tensor)
        return Wire(
            graph=str(self.artifact.graph_path),
            tensor=self.tensor,
            dtype=self.row(self.requests[0]).dtype.name,
            shape=tuple(dim if isinstance(dim, int) else -1 for dim in spec.shape[1:]),
            mask=self.mask,
            output=self.output,
            threads=setup.threads,
            batch=setup.batch,
            is_tuned=self.is_tuned,
            disabled_optimizers=manifest.session.disabled_optimizers,
        )

    def answers(self, count: int) -> list[Array]:
        """What the engine itself answers to the first `count` requests, one at a time."""
        engine = load(self.artifact, THREADS)
        try:
            return [engine.run(inputs)[self.output][0] for inputs in self.requests[:count]]
        finally:
            engine.close()


@dataclass(frozen=True, slots=True)
class Contender:
    """A server in a comparison. `serving` gives the port on which it answers, until the block ends."""

    key: str  # for the command line
    name: str
    setups: Sequence[Setup]  # to try
    requests: Callable[[Task], list[bytes]]
    serving: Callable[[Task, Setup], AbstractContextManager[int]]
    tolerance: float = 1e-3  # how far an element of an answer may be from the engine's


def all_setups() -> list[Setup]:
    return [Setup(*setup) for setup in SETUPS]


def raw_requests(path: str, headers: str = "") -> Callable[[Task], list[bytes]]:
    """The cheapest wire there is: the bytes of the row and nothing else."""

    def write(task: Task) -> list[bytes]:
        bodies = [task.row(inputs).tobytes() for inputs in task.requests]
        head = f"POST {path} HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: application/octet-stream\r\n{headers}"
        return [f"{head}content-length: {len(body)}\r\n\r\n".encode() + body for body in bodies]

    return write


def is_right(reply: Reply, expected: Array, tolerance: float) -> bool:
    """Whether an answer is the engine's: of numbers within the tolerance, of classes all but a hundredth."""
    start = int(reply.headers.get("inference-header-content-length", 0))  # JSON before the tensor
    if reply.status != 200 or len(reply.body) - start != expected.nbytes:
        return False
    found = np.frombuffer(reply.body[start:], expected.dtype).reshape(expected.shape)
    if expected.dtype.kind == "i":
        return float((found != expected).mean()) <= 0.01
    return bool(np.allclose(found, expected, rtol=0, atol=tolerance))
