"""A request that breaks a batch fails alone, in few calls, and the others get what they would have got."""

from __future__ import annotations

import asyncio
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batching.execute import Answer, group_label, run_group
from batching.queue import Item
from headrace.errors import DeadlinePassed, EngineFailed, EngineUnavailable, TensorRejected
from headrace.tensors import Array, Signature, TensorMap, TensorSpec

SIGNATURE = Signature(
    (TensorSpec("x", "FP32", ("batch", "length")),), (TensorSpec("y", "FP32", ("batch", "length")),)
)


class Engine:
    """Softmax over the padded row, so that padding shows in the answer; NaN breaks it."""

    def __init__(self) -> None:
        self.calls = 0
        self.shapes: list[tuple[int, ...]] = []

    def run(self, batch: TensorMap, outputs: tuple[str, ...]) -> dict[str, Array]:
        self.calls += 1
        self.shapes.append(batch["x"].shape)
        if np.isnan(batch["x"]).any():
            raise RuntimeError("broke at /secret/path")
        if (batch["x"] < 0).any():
            raise TensorRejected("negative")
        raised = np.exp(batch["x"])
        return {"y": raised / raised.sum(axis=1, keepdims=True)}


def item(value: float, length: int = 4, deadline: float | None = None, reply: object = None) -> Item:
    x = np.full((1, length), value, np.float32)
    return Item({"x": x}, (), {"batch": 1, "length": length}, 1, 0.0, deadline, reply)


@settings(deadline=None)  # the machine is shared
@given(st.integers(1, 64), st.data())
def test_one_poisoned_request_fails_alone_in_few_calls(size: int, data: st.DataObject) -> None:
    poisoned = data.draw(st.integers(0, size - 1))
    lengths = data.draw(st.lists(st.integers(1, 9), min_size=size, max_size=size))
    bad = data.draw(st.sampled_from([math.nan, -1.0]))
    values = [bad if at == poisoned else at / 7 for at in range(size)]
    engine, healthy = Engine(), Engine()
    found = run_group(engine.run, SIGNATURE, [item(*pair) for pair in zip(values, lengths, strict=True)])
    assert engine.calls <= 2 * math.ceil(math.log2(size)) + 1
    values[poisoned] = 0.0
    whole = run_group(healthy.run, SIGNATURE, [item(*pair) for pair in zip(values, lengths, strict=True)])
    for at, (result, wanted) in enumerate(zip(found, whole, strict=True)):
        if at == poisoned:
            assert isinstance(result, EngineFailed if math.isnan(bad) else TensorRejected)
            assert "secret" not in str(result)
        else:
            assert isinstance(result, Answer)
            assert isinstance(wanted, Answer)
            assert result.outputs["y"].tobytes() == wanted.outputs["y"].tobytes()


async def test_what_nobody_waits_for_does_not_reach_the_engine() -> None:
    engine = Engine()
    loop = asyncio.get_running_loop()
    gone, stays = loop.create_future(), loop.create_future()
    gone.cancel()
    now = time.monotonic()
    items = [item(1.0, reply=gone), item(2.0, reply=stays, deadline=now + 60), item(3.0, deadline=now - 1)]
    found = run_group(engine.run, SIGNATURE, items)
    assert engine.shapes == [(1, 4)]
    assert [type(result) for result in found] == [DeadlinePassed, Answer, DeadlinePassed]


def test_an_output_may_have_a_size_of_its_own() -> None:
    """As a text recognizer's, whose steps follow from the width: rows of one shape have as many."""
    steps = Signature(SIGNATURE.inputs, (TensorSpec("y", "FP32", ("batch", "steps")),))
    shapes = []

    def run(batch: TensorMap, outputs: tuple[str, ...]) -> dict[str, Array]:
        shapes.append(batch["x"].shape)
        return {"y": batch["x"][:, ::2]}

    found = run_group(run, steps, [item(float(number), 6) for number in range(3)])
    assert shapes == [(3, 6)]
    for number, result in enumerate(found):
        assert isinstance(result, Answer)
        assert result.outputs["y"].tolist() == [[number] * 3]


def test_batches_that_fail_for_no_requests_fault_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    def run(batch: TensorMap, outputs: tuple[str, ...]) -> dict[str, Array]:
        if len(batch["x"]) > 1:
            raise RuntimeError("one row only")
        return {"y": batch["x"]}

    for _ in range(3):
        assert all(isinstance(result, Answer) for result in run_group(run, SIGNATURE, [item(1.0)] * 4))
    told = [record for record in caplog.records if "each of its requests runs alone" in record.message]
    assert len(told) == 1
    assert "one row only" in told[0].message


@pytest.mark.parametrize(("room", "calls", "answered"), [(4, 3, 8), (2, 3, 0), (8, 1, 8)])
def test_a_batch_that_finds_no_room_is_halved_once(room: int, calls: int, answered: int) -> None:
    engine = Engine()

    def run(batch: TensorMap, outputs: tuple[str, ...]) -> dict[str, Array]:
        found = engine.run(batch, outputs)
        if len(batch["x"]) > room:
            raise EngineUnavailable("the GPU has no memory left")
        return found

    found = run_group(run, SIGNATURE, [item(at / 7) for at in range(8)])
    assert engine.calls == calls
    assert sum(isinstance(result, Answer) for result in found) == answered
    assert all(isinstance(result, Answer | EngineUnavailable) for result in found)


def test_nothing_is_run_when_nothing_is_wanted() -> None:
    engine = Engine()
    assert isinstance(run_group(engine.run, SIGNATURE, [item(1.0, deadline=0.0)])[0], DeadlinePassed)
    assert engine.calls == 0


def test_a_batch_tells_its_fill_and_its_group() -> None:
    (first, _) = run_group(Engine().run, SIGNATURE, [item(1.0, 10), item(1.0, 6)])
    assert isinstance(first, Answer)
    assert (first.batch.rows, first.batch.useful, first.batch.elements) == (2, 16, 20)
    assert first.batch.fill == 0.8
    assert first.batch.group == "length<=16"


@pytest.mark.parametrize(
    ("size", "label"), [(0, "n<=1"), (1, "n<=1"), (2, "n<=2"), (3, "n<=4"), (64, "n<=64")]
)
def test_groups_are_named_by_powers_of_two(size: int, label: str) -> None:
    assert group_label({"batch": 3, "n": size}) == label
    assert group_label({"batch": 3}) == ""
