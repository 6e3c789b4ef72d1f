"""Who is let in, and what becomes of those who cannot be answered: too late, gone, or with a hung engine."""

import asyncio

import numpy as np
import pytest

from batching.service import ServiceTime
from headrace.errors import (
    DeadlinePassed,
    EngineFailed,
    EngineUnavailable,
    Overloaded,
)
from headrace.requests import Ran
from tests.batching.gate import SIGNATURE, Gate, ask, learnt, settle, start


async def test_a_passed_deadline_is_answered_at_once_and_not_run() -> None:
    gate = Gate()
    batcher = start(gate)
    busy = ask(batcher, 0.0)
    await settle()
    late = ask(batcher, 1.0, timeout_s=0.01)
    with pytest.raises(DeadlinePassed):
        await late
    assert batcher.num_waiting_rows == 0
    gate.open.set()
    await busy
    assert gate.groups == [1]


async def test_a_caller_that_left_costs_nothing_and_breaks_nothing() -> None:
    gate = Gate()
    batcher = start(gate)
    running = ask(batcher, 0.0)
    await settle()
    waiting, stays = ask(batcher, 1.0), ask(batcher, 2.0)
    await settle()
    waiting.cancel()
    running.cancel()
    await settle()
    assert batcher.num_waiting_rows == 1
    gate.open.set()
    assert (await stays).outputs["y"][0, 0] == 4.0
    assert gate.groups == [1, 1]


async def test_a_full_queue_refuses() -> None:
    gate = Gate()
    batcher = start(gate, max_queue=1)
    tasks = [ask(batcher, 0.0)]
    await settle()
    tasks += [ask(batcher, 1.0), ask(batcher, 2.0)]
    await settle()
    gate.open.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(answers[2], Overloaded)
    assert [type(answer) for answer in answers].count(Ran) == 2


async def test_a_deadline_that_is_no_time_leaves_nothing_behind() -> None:
    gate = Gate()
    gate.open.set()
    batcher = start(gate, max_queue=1)
    x = np.ones((1, 3), np.float32)
    for _ in range(3):
        with pytest.raises(TypeError):
            await batcher.submit({"x": x}, SIGNATURE.check({"x": x}), (), "soon")  # type: ignore[arg-type]
    assert batcher.num_waiting_rows == 0
    await ask(batcher, 1.0)


def a_second_a_batch() -> ServiceTime:
    return ServiceTime([(3.0, 1.0), (30.0, 1.0)])


async def test_what_cannot_meet_its_deadline_is_refused_at_the_door_and_told_when_to_come_again() -> None:
    gate = Gate()
    batcher = start(gate, a_second_a_batch(), grouping="exact", max_batch=1)
    tasks = [ask(batcher, 0.0), ask(batcher, 1.0), ask(batcher, 2.0)]
    await settle()
    with pytest.raises(Overloaded, match="after the request's timeout") as refused:
        await ask(batcher, 3.0, timeout_s=2.0)
    assert 2.9 < refused.value.retry_after_s <= 3.0  # one runs, two wait, a second each
    patient = ask(batcher, 4.0, timeout_s=60.0)
    gate.open.set()
    assert (await patient).outputs["y"][0, 0] == 8.0
    await asyncio.gather(*tasks)


async def test_a_timeout_below_the_engines_own_time_is_told_so_at_once() -> None:
    gate = Gate()
    batcher = start(gate, a_second_a_batch(), grouping="exact")
    batcher._last_end = asyncio.get_running_loop().time()
    with pytest.raises(DeadlinePassed, match=r"takes about 1\.000 s by itself"):
        await ask(batcher, 3.0, timeout_s=0.5)
    assert gate.groups == []


async def test_a_higher_priority_is_let_in_where_the_usual_one_is_refused() -> None:
    gate = Gate()
    batcher = start(gate, a_second_a_batch(), grouping="exact", max_batch=1)
    tasks = [ask(batcher, float(n)) for n in range(5)]
    await settle()
    urgent = ask(batcher, 9.0, timeout_s=3.0, priority=1)
    with pytest.raises(Overloaded):
        await ask(batcher, 3.0, timeout_s=3.0)
    gate.open.set()
    assert (await urgent).outputs["y"][0, 0] == 18.0
    await asyncio.gather(*tasks)


async def test_a_wrong_estimate_does_not_close_the_door_for_good() -> None:
    gate = Gate()
    gate.open.set()
    batcher = start(gate, ServiceTime([(3.0, 100.0), (9.0, 100.0)]), grouping="exact")
    for _ in range(3):  # idle for long: the first is let through, and each teaches
        await ask(batcher, 1.0, timeout_s=5.0)
        await learnt()
        batcher._last_end = -1e9
    assert batcher._service.expected_s(3) < 100.0


async def test_what_became_too_late_while_it_waited_is_not_run() -> None:
    gate = Gate()
    service = ServiceTime([(3.0, 0.01), (30.0, 0.01)])
    batcher = start(gate, service, grouping="exact", max_batch=1)
    busy = ask(batcher, 0.0)
    await settle()
    late = ask(batcher, 1.0, timeout_s=0.05)
    await settle()
    service.observe(3.0, 2.0)  # batches have become slow: nothing can end in time any more
    gate.open.set()
    with pytest.raises(DeadlinePassed):
        await late
    await busy
    assert gate.groups == [1]


async def test_an_engine_that_hangs_is_noticed_and_its_callers_are_answered() -> None:
    gate = Gate()
    batcher = start(gate, grouping="exact", max_batch=1, hang_s=0.01)
    inside, waiting = ask(batcher, 0.0), ask(batcher, 1.0)
    await settle()
    assert batcher.hung() is None
    await asyncio.sleep(0.02)
    assert (batcher.hung() or 0) >= 0.01
    batcher.abandon("the engine has hung", is_hung=True)
    with pytest.raises(EngineFailed, match="hung"):
        await inside
    for task in (waiting, ask(batcher, 2.0)):
        with pytest.raises(EngineUnavailable, match="hung"):
            await task
    gate.open.set()
    await batcher.close()


async def test_an_engine_beside_one_that_hangs_finishes_what_it_has() -> None:
    gate = Gate()
    batcher = start(gate, grouping="exact", max_batch=1)
    inside, waiting = ask(batcher, 1.0), ask(batcher, 2.0)
    await settle()
    batcher.abandon("another engine has hung", is_hung=False)
    with pytest.raises(EngineUnavailable, match="another"):
        await waiting
    gate.open.set()
    assert (await inside).outputs["y"][0, 0] == 2.0


async def test_who_was_let_in_and_expired_has_waited_longer_than_expected() -> None:
    gate = Gate()
    service = ServiceTime([(3.0, 0.04), (30.0, 0.04)])
    batcher = start(gate, service, grouping="exact", max_batch=1)
    busy = ask(batcher, 0.0)
    await settle()
    before = batcher._admission._waits.factor
    with pytest.raises(DeadlinePassed):
        await ask(batcher, 1.0, timeout_s=0.15)
    assert batcher._admission._waits.factor > before
    gate.open.set()
    await busy
