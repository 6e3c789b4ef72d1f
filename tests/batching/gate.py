"""A batcher whose engine is a function, run when a test says so."""

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np

from batching import batcher as batcher_module
from batching.batcher import Batcher
from batching.execute import Result, run_group
from batching.queue import Item
from batching.service import ServiceTime
from headrace.config import BatchingConfig
from headrace.errors import TensorRejected
from headrace.requests import Ran
from headrace.tensors import Array, Signature, TensorMap, TensorSpec

SIGNATURE = Signature(
    (TensorSpec("x", "FP32", ("batch", "length")),), (TensorSpec("y", "FP32", ("batch", "length")),)
)


def double(batch: TensorMap, outputs: tuple[str, ...]) -> dict[str, Array]:
    """An engine that chokes on negative values, and dies of infinite ones."""
    if (batch["x"] < 0).any():
        raise TensorRejected("negative values are not taken")
    if np.isinf(batch["x"]).any():
        raise RuntimeError("engine broke at /secret/path")
    return {"y": batch["x"] * 2}


class Gate:
    """Runs groups through `double`, one at a time, when told to."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.groups: list[int] = []

    async def run(self, items: Sequence[Item], permit: int) -> Sequence[Result]:
        self.groups.append(len(items))
        await self.open.wait()
        return run_group(double, SIGNATURE, items)


def start(gate: Gate, service: ServiceTime | None = None, **options: Any) -> Batcher:
    return Batcher(SIGNATURE, gate.run, BatchingConfig(**{"grouping": "nearest", **options}), service)


def ask(
    batcher: Batcher, value: float, length: int = 3, timeout_s: float | None = None, priority: int = 0
) -> asyncio.Task[Ran]:
    x = np.full((1, length), value, np.float32)
    deadline = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
    return asyncio.create_task(batcher.submit({"x": x}, SIGNATURE.check({"x": x}), (), deadline, priority))


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def learnt() -> None:
    await asyncio.sleep(2 * batcher_module._LEARN_S)
