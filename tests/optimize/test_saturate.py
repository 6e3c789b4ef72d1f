"""A saturated queue is batched as the batcher does it."""

from __future__ import annotations

from itertools import count
from threading import Barrier

import numpy as np
import pytest

from headrace.config import BatchingConfig
from headrace.errors import HeadraceError, TensorRejected
from headrace.tensors import Array, Signature, TensorMap, TensorSpec
from optimize.saturate import Ran, saturate

SPEC = TensorSpec("x", "FP32", ("batch", "length"))
SIGNATURE = Signature((SPEC,), (TensorSpec("y", "FP32", ("batch", "length")),))


def run(
    lengths: list[int], waiting: int, ticks: int, **batching: object
) -> tuple[Ran, list[tuple[int, ...]]]:
    """What came of it by a clock that ticks once a batch, and the shapes of the batches."""
    shapes: list[tuple[int, ...]] = []

    def engine(batch: TensorMap, outputs: tuple[str, ...]) -> dict[str, Array]:
        shapes.append(batch["x"].shape)
        return {"y": batch["x"]}

    ticking = count()
    requests = [{"x": np.ones((1, length), np.float32)} for length in lengths]
    ran = saturate(
        engine,
        SIGNATURE,
        requests,
        BatchingConfig.model_validate(batching),
        waiting,
        float(ticks),
        lambda: float(next(ticking)),
    )
    return ran, shapes


def test_equal_shapes_fill_batches() -> None:
    ran, shapes = run([5], 8, 3, grouping="exact", max_batch=4)
    assert shapes == [(4, 5)] * 3
    assert (ran.rows, ran.batches, ran.useful, ran.elements, ran.seconds) == (12, 3, 60, 60, 3.0)


def test_neighbours_in_length_share_a_batch_within_the_padding() -> None:
    ran, shapes = run([9, 10, 99, 100], 4, 2, grouping="nearest", max_batch=8, max_padding=0.1)
    assert shapes == [(2, 10), (2, 100)]  # meanwhile 9 and 10 are there again, and too short
    assert ran.elements > ran.useful


def test_buckets_pad_and_larger_ones_run_as_they_are() -> None:
    buckets = [{"length": 8}]
    _, shapes = run([5, 6, 20], 3, 2, grouping="buckets", buckets=buckets, oversize="exact", max_batch=2)
    assert shapes[0] == (2, 8)
    assert (1, 20) in shapes or (2, 20) in shapes


def test_one_batch_runs_even_when_the_time_is_over() -> None:
    ran, _ = run([5], 2, 0, grouping="exact", max_batch=4)
    assert ran.batches == 1


def test_what_the_engine_refuses_is_told() -> None:
    def engine(batch: TensorMap, outputs: tuple[str, ...]) -> dict[str, Array]:
        raise TensorRejected("no such word")

    with pytest.raises(HeadraceError, match="no such word"):
        saturate(engine, SIGNATURE, [{"x": np.ones((1, 2), np.float32)}], BatchingConfig(), 1, 0.0)


def test_as_many_batches_run_at_once_as_there_are_permits() -> None:
    both = Barrier(2, timeout=10)

    def engine(batch: TensorMap, outputs: tuple[str, ...]) -> dict[str, Array]:
        both.wait()  # alone it would wait in vain
        return {"y": batch["x"]}

    requests = [{"x": np.ones((1, 5), np.float32)}] * 3
    ran = saturate(engine, SIGNATURE, requests, BatchingConfig(permits=2, max_batch=1), 2, 0.0)
    assert (ran.rows, ran.batches) == (2, 2)


def test_what_runs_is_not_asked_for_again() -> None:
    _, shapes = run([5], 4, 3, grouping="exact", max_batch=2)
    assert shapes == [(2, 5)] * 3
