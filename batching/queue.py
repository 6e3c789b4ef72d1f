"""What waits, and which group of it leaves next (pure: the time is an argument)."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any

from batching.shapes import Sizes, elements
from headrace.errors import Overloaded
from headrace.tensors import Signature, TensorMap

# By length, then by shape so that equal shapes are neighbours, then by arrival.
Order = tuple[int, tuple[int, ...], int]


@dataclass(slots=True, eq=False)
class Item:
    """One waiting request. `reply` carries its answer back and is not looked at here."""

    inputs: TensorMap
    outputs: tuple[str, ...]
    sizes: Sizes
    rows: int
    entered_at: float
    deadline: float | None
    reply: Any
    length: int = 0  # elements of one row
    order: Order = (0, (), 0)
    key: Hashable = None
    is_waiting: bool = False


def _leave_by(item: Item, max_wait_s: float, run_s: float) -> float:
    """When a request is to leave at the latest: twice a batch's time before its deadline, for one may
    be running."""
    aged = item.entered_at + max_wait_s
    return aged if item.deadline is None else min(aged, item.deadline - 2 * run_s)


def _order(item: Item) -> Order:
    return item.order


def _arrival(item: Item) -> int:
    return item.order[-1]


class WaitingQueue:
    """Requests in order of arrival, each in its group.

    `exact` groups equal shapes. `nearest` puts everything of one model into one group, and a
    batch is the oldest request with its nearest neighbours in length, as long as padding makes
    up at most `max_padding` of the batch.
    """

    def __init__(
        self, signature: Signature, *, can_pad: bool, max_batch: int, max_padding: float, max_queue: int
    ) -> None:
        self._signature = signature
        self._can_pad = can_pad
        self._max_batch = max_batch if signature.is_batchable else 1
        self._max_padding = max_padding
        self._max_queue = max_queue
        self._arrivals: deque[Item] = deque()
        self._groups: dict[Hashable, list[Item]] = {}  # each in order
        self._count = 0
        self._num_waiting = 0
        self.num_rows = 0

    def __len__(self) -> int:
        return self._num_waiting

    def add(self, item: Item) -> None:
        """Overloaded when the queue is full."""
        if self._num_waiting >= self._max_queue:
            raise Overloaded(f"{self._max_queue} requests are waiting already; try again in a second")
        item.length = elements(self._signature.inputs, item.sizes) if self._can_pad else 0
        item.is_waiting = True
        self._count += 1
        shape = tuple(size for dim, size in item.sizes.items() if dim != "batch")
        item.order = (item.length, shape, self._count)
        item.key = self._key(item, shape)
        insort(self._groups.setdefault(item.key, []), item, key=_order)
        self._arrivals.append(item)
        self._num_waiting += 1
        self.num_rows += item.rows

    def _key(self, item: Item, shape: tuple[int, ...]) -> Hashable:
        if item.rows == 0 or not self._signature.is_batchable:
            return id(item)  # nothing to share a batch with
        if self._can_pad:
            return item.outputs
        return (item.outputs, shape)

    def discard(self, item: Item) -> None:
        """Take a request out that nobody waits for any more, and let go of its tensors."""
        if not item.is_waiting:
            return
        self._take(item.key, self._place(item))
        item.inputs = {}
        if len(self._arrivals) > 2 * self._num_waiting + 16:
            self._arrivals = deque(entry for entry in self._arrivals if entry.is_waiting)

    def oldest(self) -> Item | None:
        while self._arrivals and not self._arrivals[0].is_waiting:
            self._arrivals.popleft()
        return self._arrivals[0] if self._arrivals else None

    def next_group(self, now: float, *, max_wait_s: float, run_s: float) -> list[Item]:
        """The next request and those that run with it; empty when all should wait for more.

        A group leaves when its batch is full, when its oldest has waited `max_wait_s`, or when waiting
        longer would miss a deadline, given that a batch runs for `run_s`; the oldest first.
        """
        for first in self._heads(max_wait_s, run_s):
            window = self._neighbours(first)
            if self._leaves_at(first, window, max_wait_s, run_s) <= now:
                return [self._take(first.key, window.start) for _ in window]
        return []

    def due_at(self, *, max_wait_s: float, run_s: float) -> float | None:
        """When next_group gives a group though nothing else happens; None when nothing waits."""
        times = [
            self._leaves_at(first, self._neighbours(first), max_wait_s, run_s)
            for first in self._heads(max_wait_s, run_s)
        ]
        return min(times, default=None)

    def _heads(self, max_wait_s: float, run_s: float) -> list[Item]:
        """The requests that a batch may be built around, in the order in which they are asked."""
        first = self.oldest()
        if first is None:
            return []
        if max_wait_s == 0:
            return [first]  # it is due, whatever the others are
        heads: list[Item] = []
        for items in self._groups.values():
            heads.append(min(items, key=_arrival))
            heads.append(min(items, key=lambda item: _leave_by(item, max_wait_s, run_s)))
        return sorted(heads, key=_arrival)

    def _leaves_at(self, first: Item, window: range, max_wait_s: float, run_s: float) -> float:
        items = self._groups[first.key]
        if sum(items[at].rows for at in window) >= self._max_batch:
            return first.entered_at
        return min(_leave_by(items[at], max_wait_s, run_s) for at in window)

    def _place(self, item: Item) -> int:
        return bisect_left(self._groups[item.key], item.order, key=_order)

    def _neighbours(self, first: Item) -> range:
        """The places in the group, all next to each other, that leave with `first`."""
        items = self._groups[first.key]
        low = self._place(first)
        high = low + 1
        rows, useful, sizes = first.rows, first.rows * first.length, dict(first.sizes)
        while rows < self._max_batch:
            for place in self._by_distance(items, low, high, first.length):
                item = items[place]
                largest = {dim: max(size, item.sizes[dim]) for dim, size in sizes.items()}
                total = (rows + item.rows) * elements(self._signature.inputs, largest)
                padding = 1 - (useful + item.rows * item.length) / total if self._can_pad and total else 0.0
                if rows + item.rows <= self._max_batch and padding <= self._max_padding:
                    break
            else:
                break
            low, high = min(low, place), max(high, place + 1)
            rows, useful, sizes = rows + item.rows, useful + item.rows * item.length, largest
        return range(low, high)

    @staticmethod
    def _by_distance(items: list[Item], low: int, high: int, length: int) -> Iterator[int]:
        """The place below and the place above the window, the nearer in length first."""
        below = length - items[low - 1].length if low else None
        above = items[high].length - length if high < len(items) else None
        if above is not None and (below is None or above <= below):
            yield high
            if below is not None:
                yield low - 1
        elif below is not None:
            yield low - 1
            if above is not None:
                yield high

    def _take(self, key: Hashable, at: int) -> Item:
        group = self._groups[key]
        item = group.pop(at)
        if not group:
            del self._groups[key]
        item.is_waiting = False
        self._num_waiting -= 1
        self.num_rows -= item.rows
        return item
