"""The engine's thread takes the next group itself."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Sequence
from typing import Any

import numpy as np
import pytest

from batching import batcher as batcher_module
from batching.batcher import Batcher
from batching.execute import Result, run_group
from batching.queue import Item
from batching.service import ServiceTime
from batching.threads import EngineThreads
from headrace.config import BatchingConfig
from headrace.errors import HeadraceError
from tests.batching.gate import SIGNATURE, ask, double


class Threads:
    """Runs groups through `double` on threads, each group for some time."""

    def __init__(self, seconds: float, service: ServiceTime | None = None, **options: Any) -> None:
        config = BatchingConfig(**{"grouping": "exact", **options})
        self.threads = EngineThreads(config.permits)
        self.seconds = seconds
        self.ended: list[float] = []
        self.fails = False
        self.batcher = Batcher(SIGNATURE, self.run, config, service)

    def run_now(self, items: Sequence[Item]) -> Sequence[Result]:
        if self.fails:
            raise OSError("the engine is gone")
        results = run_group(double, SIGNATURE, items)
        time.sleep(self.seconds)
        self.ended.append(time.monotonic())
        return results

    def run(self, items: Sequence[Item], permit: int) -> Awaitable[Sequence[Result]]:
        return self.threads.call(self.batcher.run_on, self.run_now, items, permit)

    async def close(self) -> None:
        await self.batcher.close()
        self.threads.close()


async def test_the_engine_goes_on_while_the_event_loop_is_busy() -> None:
    threads = Threads(0.02)
    asked = [ask(threads.batcher, float(length), length) for length in range(2, 6)]  # a group each
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    time.sleep(0.3)  # noqa: ASYNC251 - an event loop that has too much to do
    looked_at = time.monotonic()
    for length, task in zip(range(2, 6), asked, strict=True):
        np.testing.assert_array_equal((await task).outputs["y"], np.full((1, length), 2.0 * length))
    assert len(threads.ended) == 4
    assert max(threads.ended) < looked_at
    await threads.close()


async def test_what_expires_meanwhile_is_told_so_and_never_run() -> None:
    threads = Threads(0.1)
    first = ask(threads.batcher, 1.0, 2)
    late = ask(threads.batcher, 2.0, 3, timeout_s=0.05)
    after = ask(threads.batcher, 3.0, 4)
    await first
    with pytest.raises(HeadraceError, match="timeout"):
        await late
    assert (await after).outputs["y"][0, 0] == 6.0
    assert len(threads.ended) == 2
    await threads.close()


async def test_what_can_only_be_late_is_not_run_after_a_long_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batcher_module, "_STALE_S", 0.01)
    threads = Threads(0.06, service=ServiceTime([(2.0, 0.02), (3.0, 0.02)]))  # three times what is expected
    first = ask(threads.batcher, 1.0, 2)
    await asyncio.sleep(0)
    late = ask(threads.batcher, 2.0, 3, timeout_s=0.075)
    await first
    with pytest.raises(HeadraceError, match="timeout"):
        await late
    await threads.close()
    assert len(threads.ended) == 1


async def test_an_engine_that_fails_there_answers_everyone_and_frees_its_permit() -> None:
    threads = Threads(0.05)
    first, second = ask(threads.batcher, 1.0, 2), ask(threads.batcher, 2.0, 3)
    await asyncio.sleep(0.02)
    threads.fails = True
    await first
    with pytest.raises(HeadraceError, match="could not be run"):
        await second
    threads.fails = False
    assert (await ask(threads.batcher, 3.0)).outputs["y"][0, 0] == 6.0
    await threads.close()


async def test_closing_waits_for_the_answers_of_what_follows() -> None:
    threads = Threads(0.02)
    asked = [ask(threads.batcher, 1.0, length) for length in range(2, 8)]
    await asyncio.sleep(0)
    await threads.close()
    assert all(task.done() for task in asked)
    assert len(threads.ended) == 6


@pytest.mark.parametrize("permits", [1, 2])
async def test_everyone_is_answered_whoever_leaves(permits: int) -> None:
    threads = Threads(0.0, permits=permits, max_batch=4)
    rng = random.Random(1)
    asked = []
    for number in range(2000):
        task = ask(threads.batcher, float(number % 50), rng.randint(2, 4), rng.choice((None, 0.05)))
        asked.append((number, task))
        if rng.random() < 0.2:
            asyncio.get_running_loop().call_later(rng.uniform(0, 0.01), task.cancel)
        if number % 8 == 0:
            await asyncio.sleep(0.001)
    found = await asyncio.wait_for(asyncio.gather(*(t for _, t in asked), return_exceptions=True), 30)
    answered = 0
    for (number, _), result in zip(asked, found, strict=True):
        if isinstance(result, BaseException):
            assert isinstance(result, HeadraceError | asyncio.CancelledError)
        else:
            answered += 1
            assert result.outputs["y"][0, 0] == 2.0 * (number % 50)
    assert answered > 500
    await threads.close()
    assert threads.batcher.num_waiting_rows == 0
