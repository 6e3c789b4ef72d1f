"""Every accepted request gets an answer: its outputs, its own error, or that its deadline passed."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from batching.batcher import Batcher
from batching.execute import Batch, Result, run_group
from batching.queue import Item
from batching.service import ServiceTime
from headrace.config import BatchingConfig
from headrace.errors import (
    ConfigRejected,
    EngineFailed,
    EngineUnavailable,
    TensorRejected,
    TooLarge,
)
from headrace.requests import Ran
from headrace.tensors import Signature, TensorSpec
from tests.batching.gate import SIGNATURE, Gate, ask, double, learnt, settle, start


async def test_requests_gather_while_the_engine_is_busy() -> None:
    gate = Gate()
    batcher = start(gate)
    tasks = [ask(batcher, 0.0)]
    await settle()
    tasks += [ask(batcher, float(number)) for number in range(1, 6)]
    await settle()
    assert batcher.num_waiting_rows == 5
    gate.open.set()
    answers = await asyncio.gather(*tasks)
    assert gate.groups == [1, 5]
    assert [float(ran.outputs["y"][0, 0]) for ran in answers] == [0, 2, 4, 6, 8, 10]
    assert [ran.timings.batch_rows for ran in answers] == [1, 5, 5, 5, 5, 5]


async def test_what_comes_together_is_gathered_for_a_free_engine_too() -> None:
    gate = Gate()
    gate.open.set()
    batcher = start(gate)
    with batcher.gathering():
        tasks = [ask(batcher, float(number)) for number in range(4)]
        await settle()
        assert gate.groups == []
    await asyncio.gather(*tasks)
    assert gate.groups == [4]


async def test_a_free_engine_is_not_kept_waiting() -> None:
    gate = Gate()
    gate.open.set()
    batcher = start(gate)
    assert (await ask(batcher, 4.0)).outputs["y"].tolist() == [[8.0, 8.0, 8.0]]


async def test_max_wait_holds_a_group_until_it_is_full() -> None:
    gate = Gate()
    gate.open.set()
    batcher = start(gate, max_batch=2, max_wait_ms=10_000.0)
    first = ask(batcher, 1.0)
    await settle()
    assert gate.groups == []
    await asyncio.gather(first, ask(batcher, 2.0))
    assert gate.groups == [2]


async def test_max_wait_is_the_longest_wait() -> None:
    gate = Gate()
    gate.open.set()
    batcher = start(gate, max_wait_ms=20.0)
    assert (await ask(batcher, 1.0)).timings.batch_rows == 1


async def test_one_bad_request_fails_alone() -> None:
    gate = Gate()
    batcher = start(gate)
    tasks = [ask(batcher, value) for value in (0.0, 1.0, -1.0, 2.0)]
    gate.open.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(answers[2], TensorRejected)
    assert [type(answer) for answer in answers].count(Ran) == 3


async def test_an_engine_that_breaks_fails_one_request_and_says_nothing_of_itself() -> None:
    gate = Gate()
    batcher = start(gate)
    tasks = [ask(batcher, value) for value in (0.0, np.inf, 2.0)]
    gate.open.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(answers[1], EngineFailed)
    assert "secret" not in str(answers[1])
    assert (await ask(batcher, 3.0)).outputs["y"][0, 0] == 6.0


async def test_a_group_that_cannot_be_run_at_all_answers_everyone_and_frees_its_permit() -> None:
    calls = 0

    async def run(items: Sequence[Item], permit: int) -> Sequence[Result]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise OSError("no thread to run on")
        return run_group(double, SIGNATURE, items)

    batcher = Batcher(SIGNATURE, run, BatchingConfig(grouping="exact"))
    with pytest.raises(EngineFailed):
        await ask(batcher, 1.0)
    assert (await ask(batcher, 1.0)).outputs["y"][0, 0] == 2.0


async def test_a_request_of_many_rows_runs_in_parts_among_the_others() -> None:
    gate = Gate()
    batcher = start(gate, max_batch=4)
    x = np.arange(30, dtype=np.float32).reshape(10, 3)
    large = asyncio.create_task(batcher.submit({"x": x}, SIGNATURE.check({"x": x})))
    await settle()
    small = ask(batcher, 1.0)
    gate.open.set()
    answer, _ = await asyncio.gather(large, small)
    assert np.array_equal(answer.outputs["y"], x * 2)
    assert answer.timings.batch_rows == 4
    assert len(gate.groups) == 3  # 4, 4, and the last 2 together with the small one


async def test_a_request_of_too_many_rows_is_told_how_many_are_taken() -> None:
    batcher = start(Gate(), max_batch=2, max_queue=3)
    x = np.ones((7, 3), np.float32)
    with pytest.raises(TooLarge, match="7 rows; at most 6"):
        await batcher.submit({"x": x}, SIGNATURE.check({"x": x}))


async def test_a_large_request_leaves_room_for_others() -> None:
    gate = Gate()
    batcher = start(gate, max_batch=1, max_queue=8)
    x = np.ones((8, 3), np.float32)
    large = asyncio.create_task(batcher.submit({"x": x}, SIGNATURE.check({"x": x})))
    await settle()
    assert batcher.num_waiting_rows == 1  # one runs, one waits, six are not in the queue yet
    small = ask(batcher, 1.0)
    gate.open.set()
    await asyncio.wait([large, small], return_when=asyncio.FIRST_COMPLETED)
    assert small.done()
    await large


async def test_a_bad_part_fails_its_request_and_no_other() -> None:
    gate = Gate()
    batcher = start(gate, max_batch=2)
    x = np.ones((6, 3), np.float32)
    x[3] = -1
    large = asyncio.create_task(batcher.submit({"x": x}, SIGNATURE.check({"x": x})))
    small = ask(batcher, 1.0)
    gate.open.set()
    with pytest.raises(TensorRejected):
        await large
    assert (await small).outputs["y"][0, 0] == 2.0
    assert batcher.num_waiting_rows == 0


async def test_a_listener_that_raises_does_not_stop_the_batches() -> None:
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)  # it is told there
    gate = Gate()
    gate.open.set()

    def listen(batch: Batch, waited_s: float) -> None:
        raise ValueError("no metrics today")

    batcher = Batcher(SIGNATURE, gate.run, BatchingConfig(grouping="exact"), None, listen)
    answers = await asyncio.gather(*(ask(batcher, float(n), length=n + 1) for n in range(3)))
    assert [float(ran.outputs["y"][0, 0]) for ran in answers] == [0, 2, 4]


async def test_permits_run_groups_side_by_side() -> None:
    gate = Gate()
    batcher = start(gate, permits=2)
    tasks = [ask(batcher, 0.0), ask(batcher, 1.0, length=50)]
    await settle()
    assert len(gate.groups) == 2
    gate.open.set()
    await asyncio.gather(*tasks)


async def test_closing_answers_what_was_accepted_and_refuses_the_rest() -> None:
    gate = Gate()
    gate.open.set()
    batcher = start(gate, max_wait_ms=10_000.0)
    accepted = ask(batcher, 1.0)
    await settle()
    await batcher.close()
    assert (await accepted).outputs["y"][0, 0] == 2.0
    with pytest.raises(EngineUnavailable, match="shutting down"):
        await ask(batcher, 1.0)


async def test_nearest_is_refused_for_a_model_whose_outputs_cannot_be_cut_back() -> None:
    signature = Signature(SIGNATURE.inputs, (TensorSpec("y", "FP32", ("batch", "steps")),))
    with pytest.raises(ConfigRejected, match="use grouping 'exact'"):
        Batcher(signature, Gate().run, BatchingConfig(grouping="nearest"))


async def test_batches_are_told_with_their_group_fill_and_wait() -> None:
    gate = Gate()
    told: list[tuple[Batch, float]] = []
    batcher = Batcher(
        SIGNATURE,
        gate.run,
        BatchingConfig(grouping="nearest"),
        None,
        lambda batch, waited_s: told.append((batch, waited_s)),
    )
    tasks = [ask(batcher, 0.0)]
    await settle()
    tasks += [ask(batcher, 1.0, length=9), ask(batcher, 1.0, length=10)]
    gate.open.set()
    await asyncio.gather(*tasks)
    await learnt()
    assert [(batch.group, batch.rows, batch.fill) for batch, _ in told] == [
        ("length<=4", 1, 1.0),
        ("length<=16", 2, 0.95),
    ]
    assert all(0 <= waited_s < 5 for _, waited_s in told)


async def test_buckets_pad_to_one_shape_and_the_answer_is_cut_back() -> None:
    gate = Gate()
    gate.open.set()
    batcher = start(gate, grouping="buckets", buckets=[{"length": 8}, {"length": 32}])
    short, long = await asyncio.gather(ask(batcher, 1.0, length=3), ask(batcher, 2.0, length=20))
    assert (short.outputs["y"].shape, long.outputs["y"].shape) == ((1, 3), (1, 20))
    with pytest.raises(TensorRejected, match="no bucket holds"):
        await ask(batcher, 1.0, length=33)


async def test_a_quick_model_is_run_at_once_when_nothing_is_before_it() -> None:
    gate = Gate()
    gate.open.set()
    at_once: list[int] = []

    def run_now(items: Sequence[Item]) -> Sequence[Result]:
        at_once.append(len(items))
        return run_group(double, SIGNATURE, items)

    config = BatchingConfig(grouping="nearest")
    quick = Batcher(SIGNATURE, gate.run, config, ServiceTime([(3.0, 1e-5)]), run_now=run_now)
    assert (await ask(quick, 2.0)).outputs["y"].tolist() == [[4.0, 4.0, 4.0]]
    with pytest.raises(TensorRejected):
        await ask(quick, -1.0)
    assert (at_once, gate.groups) == ([1, 1], [])
    slow = Batcher(SIGNATURE, gate.run, config, ServiceTime([(3.0, 1e-2)]), run_now=run_now)
    await ask(slow, 2.0)
    assert (at_once, gate.groups) == ([1, 1], [1])
