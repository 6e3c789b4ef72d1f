"""Requests with callers that leave, deadlines that pass and inputs that break the engine: who gets what.

Each request carries its number, and the engine notes which numbers it is given and when. So it shows
whether something ran that nobody waited for any more, and whether somebody waits for ever.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import threading
import time
from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import uvloop
from onnx import TensorProto, helper

from batching.batcher import Batcher
from batching.execute import Result, run_group
from batching.queue import Item
from batching.threads import EngineThreads
from benchmarks.figures import Figure
from engines.artifact import Repository
from engines.base import Engine
from engines.load import load
from headrace.config import BatchingConfig
from headrace.errors import HeadraceError
from headrace.tensors import Array, Signature, TensorMap, TensorSpec

SIGNATURE = Signature(
    (TensorSpec("index", "INT64", ("batch", "length")),), (TensorSpec("y", "FP32", ("batch", "length")),)
)
TABLE = 1 << 20  # an index beyond it breaks the batch
RATE = 4000.0  # requests/s, far more than an engine of one thread and a millisecond a batch answers
PATIENCE_S = 30.0
_BROKEN = TABLE


@dataclass(slots=True)
class Tally:
    """What became of the requests, by number."""

    started: dict[int, float] = field(default_factory=dict)  # when the engine got it last
    left: dict[int, float] = field(default_factory=dict)
    deadlines: dict[int, float] = field(default_factory=dict)
    answered: int = 0
    failed: int = 0
    refused: int = 0
    unanswered: int = 0
    wrong: int = 0


def figures(requests: int) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        engine = _engine(Path(folder))
        tally = uvloop.run(_run(engine, requests))
    late = sum(tally.started.get(number, 0.0) > at for number, at in tally.deadlines.items())
    gone = sum(tally.started.get(number, 0.0) > at for number, at in tally.left.items())
    yield Figure("chaos: requests", requests, "requests", f">= {requests}")
    yield Figure("answered", tally.answered, "requests", "> 0")
    yield Figure("failed by their own inputs or deadlines", tally.failed, "requests", "> 0")
    yield Figure("refused at the door", tally.refused, "requests")
    yield Figure("callers that left", len(tally.left), "requests", "> 0")
    yield Figure("of these, run after their caller had left", gone, "requests", "== 0")
    yield Figure("run after their deadline", late, "requests", "== 0")
    yield Figure("left without an answer", tally.unanswered, "requests", "== 0")
    yield Figure("wrong answers", tally.wrong, "requests", "== 0")


def _engine(root: Path) -> Engine:
    """A table look-up that repeats each index, with enough work behind it to keep a queue waiting."""
    given = helper.make_tensor_value_info("index", TensorProto.INT64, ["batch", "length"])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "length"])
    table = helper.make_tensor(
        "table", TensorProto.FLOAT, [TABLE], np.arange(TABLE, dtype=np.float32).tobytes(), raw=True
    )
    square = helper.make_tensor("square", TensorProto.INT64, [2], [256, 256])
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0])
    nodes = [
        helper.make_node("Gather", ["table", "index"], ["found"]),
        helper.make_node("ReduceMean", ["found"], ["mean"], keepdims=1),
        helper.make_node("Mul", ["mean", "zero"], ["small"]),
        helper.make_node("Expand", ["small", "square"], ["m0"]),
        helper.make_node("MatMul", ["m0", "m0"], ["m1"]),
        helper.make_node("MatMul", ["m1", "m0"], ["m2"]),
        helper.make_node("ReduceSum", ["m2"], ["sum"], keepdims=0),
        helper.make_node("Add", ["found", "sum"], ["y"]),
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "chaos", [given], [result], [table, square, zero]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    onnx.checker.check_model(model)
    repository = Repository(root)
    repository.publish(
        "chaos", "1", {"model.onnx": model.SerializeToString()}, graph="model.onnx", signature=SIGNATURE
    )
    return load(repository.open("chaos", "1"), 1)


async def _run(engine: Engine, requests: int) -> Tally:
    tally = Tally()
    loop = asyncio.get_running_loop()
    rng = random.Random(7)
    threads = EngineThreads(2)
    decided = threading.local()  # when it was looked at who still waits, for the batch of this thread

    def clock() -> float:
        decided.at = time.monotonic()
        return float(decided.at)

    def run(batch: TensorMap, outputs: tuple[str, ...]) -> dict[str, Array]:
        for number in batch["index"][:, 0].tolist():
            tally.started[number] = decided.at
        return engine.run(batch, outputs)

    def run_now(items: Sequence[Item]) -> Sequence[Result]:
        return run_group(run, SIGNATURE, items, clock)

    def run_items(items: Sequence[Item], permit: int) -> Awaitable[Sequence[Result]]:
        return threads.call(batcher.run_on, run_now, items, permit)

    batcher = Batcher(SIGNATURE, run_items, BatchingConfig(grouping="exact", max_batch=16, permits=2))

    async def ask(number: int) -> None:
        length = rng.choice((2, 3, 5))
        index = np.full((1, length), number, np.int64)
        if rng.random() < 0.05:
            index[0, 1] = _BROKEN
        deadline = None
        if rng.random() < 0.4:
            deadline = tally.deadlines[number] = loop.time() + rng.uniform(0.0, 0.2)
        priority = rng.choice((0, 0, 0, 1, 3, 8))
        try:
            ran = await batcher.submit(
                {"index": index}, SIGNATURE.check({"index": index}), (), deadline, priority
            )
        except HeadraceError as err:
            tally.refused += err.status == 429
            tally.failed += err.status != 429
            return
        except asyncio.CancelledError:
            tally.left[number] = time.monotonic()
            raise
        tally.answered += 1
        tally.wrong += not np.array_equal(ran.outputs["y"], index.astype(np.float32))

    tasks: list[asyncio.Task[None]] = []
    for number in range(requests):
        task = asyncio.create_task(ask(number))
        tasks.append(task)
        if rng.random() < 0.2:
            loop.call_later(rng.expovariate(20.0), task.cancel)
        await asyncio.sleep(rng.expovariate(RATE))
    _, waiting = await asyncio.wait(tasks, timeout=PATIENCE_S)
    tally.unanswered = len(waiting)
    for task in waiting:
        task.cancel()
    await batcher.close()
    threads.close()
    engine.close()
    return tally
