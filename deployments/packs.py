"""Requests that wait for a replica, and which of them travel together (pure: the time is an argument)."""

from __future__ import annotations

from dataclasses import dataclass

from batching.execute import group_label
from batching.queue import LAST_LEVEL, Item, WaitingQueue
from batching.shapes import Sizes
from headrace.config import BatchingConfig
from headrace.tensors import Signature

PACK_BYTES = 8 << 20  # of one call; a single larger request travels alone


@dataclass(frozen=True, slots=True)
class Pack:
    """What travels in one call. Packs of one `group` are best computed by one replica."""

    group: str
    items: list[Item]


class Packs:
    """Holds requests and gives them out in packs of those that one replica should batch.

    A pack is the request whose turn it is with those of its shape or bucket, filled up with the next ones
    and theirs: when so many wait that calls are scarce, full packs are worth more than pure ones. With
    grouping `nearest` it is neighbours in length alone, which are seldom few.
    """

    def __init__(self, signature: Signature, batching: BatchingConfig, max_rows: int) -> None:
        self._is_near = batching.grouping == "nearest"
        self._has_groups = signature.is_batchable  # else there is nothing to meet for
        self._max_rows = max_rows
        self._queue = WaitingQueue.of(signature, batching, max_rows)

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def num_rows(self) -> int:
        return self._queue.num_rows

    def waiting(self) -> tuple[int, int]:
        """Rows, and the elements in them."""
        return self._queue.ahead_of(LAST_LEVEL)

    def oldest_s(self, now: float) -> float:
        """How long the request whose turn it is has waited; 0 when there is none."""
        return self._queue.oldest_s(now)

    def measure(self, sizes: Sizes) -> int:
        """The elements of one row in the shape it will run in; TensorRejected when no bucket holds it."""
        return self._queue.measure(sizes)

    def add(self, item: Item) -> None:
        """Take a request in; TensorRejected when no bucket holds it."""
        self._queue.add(item)

    def discard(self, item: Item) -> None:
        """Take out what nobody waits for any more."""
        self._queue.discard(item)

    def next(self, now: float) -> Pack:
        """The request whose turn it is, and those that go with it, up to the limits of rows and bytes."""
        first = self._queue.first()
        assert first is not None, "something waits"
        items = self._take(now)
        while not self._is_near and sum(item.rows for item in items) < self._max_rows and len(self._queue):
            items += self._take(now)
        items.remove(first)  # it travels whatever its size
        rows, size = first.rows, num_bytes(first)
        kept = [first]
        for item in items:
            rows, size = rows + item.rows, size + num_bytes(item)
            if rows <= self._max_rows and size <= PACK_BYTES:
                kept.append(item)
            else:
                self._queue.add(item)
        return Pack(self._group(first), kept)

    def _take(self, now: float) -> list[Item]:
        return self._queue.next_group(now, max_wait_s=0.0, estimate=lambda _: 0.0)

    def _group(self, item: Item) -> str:
        """The shape that a replica is chosen by, lengths rounded up where neighbours share a batch."""
        sizes = item.target or item.sizes
        if not self._has_groups:
            return ""
        if self._is_near:
            return group_label(sizes)
        return ",".join(f"{dim}={size}" for dim, size in sizes.items() if dim != "batch")


def num_bytes(item: Item) -> int:
    return sum(array.nbytes for array in item.inputs.values())
