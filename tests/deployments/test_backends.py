"""Placement "replicas": what waits is packed, and a replica that dies costs no answer."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from deployments.backends import Replicas
from deployments.load import infer_request
from deployments.packs import PACK_BYTES
from headrace.config import BatchingConfig
from headrace.errors import (
    DeadlinePassed,
    EngineFailed,
    EngineUnavailable,
    HeadraceError,
    Overloaded,
    TensorRejected,
)
from headrace.requests import Ran
from headrace.tensors import Signature, TensorSpec
from tests.conftest import Running
from tests.processes import descendants

SPEC = TensorSpec("x", "FP32", ("batch", "length"))
SIGNATURE = Signature((SPEC,), (SPEC,))


class Handle:
    """Stands for the far side: the packs that arrive, held until `open`."""

    def __init__(self, failures: int = 0) -> None:
        self.packs: list[int] = []
        self.open = asyncio.Event()
        self.failures = failures
        self.infer_packed = self

    async def remote(self, message: list[Any], group: str) -> list[Ran | HeadraceError]:
        self.packs.append(len(message))
        if len(self.packs) <= self.failures:
            raise ConnectionError("the replica died")
        await self.open.wait()
        return [
            TensorRejected("negative") if inputs["x"][0, 0] < 0 else Ran({"y": inputs["x"] * 2})
            for inputs, *_ in message
        ]


def replicas(handle: Handle, max_calls: int, **limits: int) -> Replicas:
    return Replicas(
        handle, SIGNATURE, BatchingConfig(grouping="exact"), max_calls=lambda: max_calls, **limits
    )


def ask(backend: Replicas, value: float, timeout_s: float | None = None, size: int = 1) -> asyncio.Task[Ran]:
    x = np.full((1, size), value, np.float32)
    deadline = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
    return asyncio.create_task(backend.infer({"x": x}, {"batch": 1, "length": size}, (), deadline))


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_waits_travels_together() -> None:
    handle = Handle()
    backend = replicas(handle, max_calls=1, max_pack=4, max_queue=99)
    tasks = [ask(backend, 0.0)]
    await settle()
    tasks += [ask(backend, float(n)) for n in range(1, 7)]
    await settle()
    handle.open.set()
    answers = await asyncio.gather(*tasks)
    assert handle.packs == [1, 4, 2]
    assert [float(ran.outputs["y"][0, 0]) for ran in answers] == [0, 2, 4, 6, 8, 10, 12]


async def test_a_pack_stays_below_its_bytes() -> None:
    handle = Handle()
    handle.open.set()
    backend = replicas(handle, max_calls=1, max_pack=99, max_queue=99)
    half = PACK_BYTES // 8 + 1  # floats: two of them are over the limit
    await asyncio.gather(*(ask(backend, 1.0, size=half) for _ in range(3)))
    assert handle.packs == [1, 1, 1]


async def test_each_request_of_a_pack_gets_its_own_error() -> None:
    handle = Handle()
    handle.open.set()
    backend = replicas(handle, max_calls=1, max_pack=9, max_queue=99)
    answers = await asyncio.gather(*(ask(backend, v) for v in (1.0, -1.0, 2.0)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [Ran, TensorRejected, Ran]


async def test_a_failed_call_is_tried_once_more() -> None:
    handle = Handle(failures=1)
    handle.open.set()
    backend = replicas(handle, max_calls=1, max_pack=9, max_queue=99)
    assert (await ask(backend, 3.0)).outputs["y"][0, 0] == 6.0


async def test_only_what_a_replica_could_not_do_is_tried_once_more() -> None:
    class Ending(Handle):
        async def remote(self, message: list[Any], group: str) -> list[Ran | HeadraceError]:
            answers = await super().remote(message, group)
            if len(self.packs) == 1:
                answers[1] = EngineUnavailable("this replica is being replaced")
                answers[2] = EngineFailed("its batch hung")
            return answers

    handle = Ending()
    backend = replicas(handle, max_calls=1, max_pack=9, max_queue=99)
    tasks = [ask(backend, 0.0)]
    await settle()
    handle.packs.clear()
    tasks += [ask(backend, float(n)) for n in range(1, 5)]
    handle.open.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(answer) for answer in answers] == [Ran, Ran, Ran, EngineFailed, Ran]
    assert handle.packs == [4, 1]


async def test_retries_end_with_the_budget() -> None:
    handle = Handle(failures=10_000)
    backend = replicas(handle, max_calls=1, max_pack=1, max_queue=999)
    for _ in range(500):
        with pytest.raises(EngineUnavailable):
            await ask(backend, 1.0)
    assert 500 + 100 <= len(handle.packs) <= 500 + 100 + 0.2 * 500


async def test_what_is_past_its_deadline_is_not_tried_again() -> None:
    class Late(Handle):
        async def remote(self, message: list[Any], group: str) -> list[Ran | HeadraceError]:
            await super().remote(message, group)
            raise ConnectionError("the replica died")

    handle = Late()
    backend = replicas(handle, max_calls=1, max_pack=9, max_queue=99)
    with pytest.raises(DeadlinePassed):
        await ask(backend, 3.0, timeout_s=0.02)
    handle.open.set()
    await backend.close()
    assert handle.packs == [1]


async def test_work_under_way_counts_towards_the_bound() -> None:
    handle = Handle()
    backend = replicas(handle, max_calls=1, max_pack=4, max_queue=3)
    tasks = [ask(backend, 0.0)]
    await settle()
    tasks += [ask(backend, 1.0), ask(backend, 2.0)]
    await settle()
    with pytest.raises(Overloaded, match="3 requests are waiting"):
        await ask(backend, 3.0)
    handle.open.set()
    await asyncio.gather(*tasks)


async def test_replicas_that_stay_away_are_said_to_be_unavailable() -> None:
    handle = Handle(failures=2)
    backend = replicas(handle, max_calls=1, max_pack=9, max_queue=99)
    with pytest.raises(EngineUnavailable):
        await ask(backend, 3.0)


async def test_a_call_that_is_cancelled_or_answers_too_little_leaves_nobody_waiting() -> None:
    class Broken(Handle):
        async def remote(self, message: list[Any], group: str) -> list[Ran | HeadraceError]:
            if message[0][0]["x"][0, 0] == 0:
                raise asyncio.CancelledError
            return []

    backend = replicas(Broken(), max_calls=1, max_pack=9, max_queue=99)
    for value in (0.0, 1.0):
        with pytest.raises(EngineUnavailable):
            await asyncio.wait_for(ask(backend, value), 5)


async def test_callers_that_left_make_room() -> None:
    handle = Handle()
    backend = replicas(handle, max_calls=1, max_pack=9, max_queue=2)
    busy = ask(backend, 0.0)
    await settle()
    for _ in range(5):
        with pytest.raises(DeadlinePassed):
            await ask(backend, 1.0, timeout_s=0.005)
    assert backend.num_waiting_rows == 0
    handle.open.set()
    await busy


async def test_deadlines_callers_that_left_and_full_queues() -> None:
    handle = Handle()
    backend = replicas(handle, max_calls=1, max_pack=9, max_queue=2)
    busy = ask(backend, 0.0)
    await settle()
    late, gone = ask(backend, 1.0, timeout_s=0.01), ask(backend, 2.0)
    await settle()
    with pytest.raises(Overloaded):
        await ask(backend, 3.0)
    gone.cancel()
    with pytest.raises(DeadlinePassed):
        await late
    handle.open.set()
    await busy
    await backend.close()
    assert handle.packs == [1]  # neither travelled


def test_a_replica_that_dies_under_load_costs_no_answer(running: Running) -> None:
    rng = np.random.default_rng(8)
    requests = [infer_request("test", "far", {"x": rng.random((1, 9), np.float32)}) for _ in range(2000)]
    victims = descendants("headrace:far:1:Model")
    assert len(victims) == 2, "both replicas run"

    async def kill_in_the_middle() -> int:
        from deployments.load import closed_loop

        load = asyncio.create_task(closed_loop("127.0.0.1", running.port, requests, 16))
        await asyncio.sleep(0.3)
        victims[0].kill()
        return (await load).num_failed

    assert asyncio.run(kill_in_the_middle()) == 0
