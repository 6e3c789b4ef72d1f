"""What waits travels with its like."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from batching.queue import Item
from deployments.packs import PACK_BYTES, Packs
from headrace.config import BatchingConfig
from headrace.errors import TensorRejected
from headrace.tensors import Signature, TensorSpec

SPEC = TensorSpec("x", "FP32", ("batch", "length"))
SIGNATURE = Signature((SPEC,), (SPEC,))


def packs(grouping: str = "exact", max_rows: int = 4, signature: Signature = SIGNATURE, **more: Any) -> Packs:
    return Packs(signature, BatchingConfig.model_validate({"grouping": grouping, **more}), max_rows)


def item(length: int, entered_at: float = 0.0, priority: int = 2, rows: int = 1) -> Item:
    inputs = {"x": np.zeros((rows, length), np.float32)}
    return Item(inputs, (), {"batch": rows, "length": length}, rows, entered_at, None, None, priority)


def lengths(waiting: Packs) -> list[tuple[str, list[int]]]:
    found = []
    while len(waiting):
        pack = waiting.next(9.0)
        found.append((pack.group, [one.sizes["length"] for one in pack.items]))
    return found


def test_equal_shapes_travel_together_the_oldest_first() -> None:
    waiting = packs()
    for length in (7, 9, 7, 7, 9, 7, 7):
        waiting.add(item(length))
    assert waiting.num_rows == 7
    assert lengths(waiting) == [("length=7", [7] * 4), ("length=9", [9, 9, 7])]


def test_a_pack_is_filled_up_with_the_next_ones_and_theirs() -> None:
    waiting = packs(max_rows=5)
    for length in (1, 2, 3, 2, 1, 3):
        waiting.add(item(length))
    assert lengths(waiting) == [("length=1", [1, 1, 2, 2, 3]), ("length=3", [3])]


def test_neighbours_in_length_travel_with_the_oldest() -> None:
    waiting = packs("nearest", max_padding=0.1)
    for length in (50, 5, 51, 49, 99):
        waiting.add(item(length))
    (group, found), *rest = lengths(waiting)
    assert (group, sorted(found)) == ("length<=64", [49, 50, 51])
    assert rest == [("length<=8", [5]), ("length<=128", [99])]


def test_requests_of_one_bucket_travel_side_by_side() -> None:
    waiting = packs("buckets", buckets=[{"length": 8}, {"length": 32}])
    for length in (5, 20, 8, 9):
        waiting.add(item(length))
    assert lengths(waiting) == [("length=8", [5, 8, 20, 9])]
    with pytest.raises(TensorRejected, match="no bucket holds"):
        waiting.add(item(33))


def test_a_pack_holds_so_many_rows_and_bytes() -> None:
    waiting = packs()
    for rows in (3, 2, 2):
        waiting.add(item(1, rows=rows))
    assert [len(pack) for _, pack in lengths(waiting)] == [1, 2]  # three rows, then two and two
    half = PACK_BYTES // 8 + 1  # floats: two of them are over the limit
    for _ in range(3):
        waiting.add(item(half))
    assert [len(pack) for _, pack in lengths(waiting)] == [1, 1, 1]


def test_a_request_that_is_larger_than_a_pack_travels_alone() -> None:
    waiting = packs()
    waiting.add(item(1, rows=40))
    waiting.add(item(PACK_BYTES))
    waiting.add(item(1))
    assert [pack for _, pack in lengths(waiting)] == [[1], [PACK_BYTES], [1]]


def test_higher_priority_leaves_first() -> None:
    waiting = packs(max_rows=1)
    waiting.add(item(1, priority=2))
    waiting.add(item(2, priority=1))
    assert [pack for _, pack in lengths(waiting)] == [[2], [1]]


def test_what_cannot_be_batched_travels_with_whatever_waits() -> None:
    image = TensorSpec("x", "FP32", ("length",))
    waiting = packs(signature=Signature((image,), (image,)))
    for length in (5, 6, 7, 8, 9):
        waiting.add(Item({"x": np.zeros(length, np.float32)}, (), {"length": length}, 1, 0.0, None, None))
    assert lengths(waiting) == [("", [5, 6, 7, 8]), ("", [9])]


def test_nobody_waits_for_what_was_taken_out() -> None:
    waiting = packs()
    gone = item(5)
    waiting.add(gone)
    waiting.add(item(6))
    waiting.discard(gone)
    assert lengths(waiting) == [("length=6", [6])]
