"""What waits, and which group of it leaves next (pure: the time is an argument)."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any

from batching.shapes import Sizes, elements
from headrace.errors import Overloaded
from headrace.tensors import Signature, TensorMap


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
    key: Hashable = None
    is_waiting: bool = False


@dataclass(slots=True)
class _Group:
    """The waiting requests that may share a batch, the shortest first."""

    items: list[tuple[int, int, Item]] = field(default_factory=list)  # length, arrival, item


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
        self._arrivals: deque[tuple[int, Item]] = deque()
        self._groups: dict[Hashable, _Group] = {}
        self._count = 0
        self._num_waiting = 0
        self.num_rows = 0

    def __len__(self) -> int:
        return self._num_waiting

    def add(self, item: Item) -> None:
        """Overloaded when the queue is full."""
        if self._num_waiting >= self._max_queue:
            raise Overloaded(f"{self._max_queue} requests are waiting already; try again in a second")
        item.key = self._key(item)
        item.length = elements(self._signature.inputs, item.sizes) if self._can_pad else 0
        item.is_waiting = True
        self._count += 1
        insort(
            self._groups.setdefault(item.key, _Group()).items,
            (item.length, self._count, item),
            key=lambda entry: entry[:2],
        )
        self._arrivals.append((self._count, item))
        self._num_waiting += 1
        self.num_rows += item.rows

    def _key(self, item: Item) -> Hashable:
        if item.rows == 0 or not self._signature.is_batchable:
            return id(item)  # nothing to share a batch with
        if self._can_pad:
            return item.outputs
        return (item.outputs, tuple(sorted((dim, n) for dim, n in item.sizes.items() if dim != "batch")))

    def discard(self, item: Item) -> None:
        """Take a request out that nobody waits for any more."""
        if not item.is_waiting:
            return
        group = self._groups[item.key]
        at = bisect_left(group.items, item.length, key=lambda entry: entry[0])
        while group.items[at][2] is not item:
            at += 1
        self._take(item.key, at)

    def oldest(self) -> Item | None:
        while self._arrivals and not self._arrivals[0][1].is_waiting:
            self._arrivals.popleft()
        return self._arrivals[0][1] if self._arrivals else None

    def next_group(self, now: float, *, max_wait_s: float, run_s: float) -> list[Item]:
        """The oldest request and those that may run with it; empty when it should wait for more.

        It leaves when the batch is full, when it has waited `max_wait_s`, or when waiting longer
        would miss a deadline, given that a batch runs for `run_s`.
        """
        first = self.oldest()
        if first is None:
            return []
        places = self._neighbours(first)
        items = self._groups[first.key].items
        rows = sum(items[at][2].rows for at in places)
        is_due = (
            now - first.entered_at >= max_wait_s
            or rows >= self._max_batch
            or any(
                (deadline := items[at][2].deadline) is not None and deadline - now <= 2 * run_s
                for at in places
            )
        )
        if not is_due:
            return []
        start = places.start
        return [self._take(first.key, start) for _ in places]

    def due_at(self, *, max_wait_s: float, run_s: float) -> float | None:
        """When next_group should be asked again, though nothing else happens; None when nothing waits."""
        first = self.oldest()
        if first is None:
            return None
        due = first.entered_at + max_wait_s
        for _, _, item in self._groups[first.key].items:
            if item.deadline is not None:
                due = min(due, item.deadline - 2 * run_s)
        return due

    def _neighbours(self, first: Item) -> range:
        """The places in the group, all next to each other, that leave with `first`."""
        items = self._groups[first.key].items
        at = bisect_left(items, first.length, key=lambda entry: entry[0])
        while items[at][2] is not first:
            at += 1
        low, high = at, at + 1
        rows, useful = first.rows, first.rows * first.length
        longest = first
        while True:
            for place in self._by_distance(items, low, high, first.length):
                item = items[place][2]
                taller = item if item.length > longest.length else longest
                total = (rows + item.rows) * taller.length
                fits = rows + item.rows <= self._max_batch
                if fits and (
                    total == 0 or (useful + item.rows * item.length) / total >= 1 - self._max_padding
                ):
                    break
            else:
                return range(low, high)
            low, high = min(low, place), max(high, place + 1)
            rows, useful, longest = rows + item.rows, useful + item.rows * item.length, taller

    @staticmethod
    def _by_distance(items: list[tuple[int, int, Item]], low: int, high: int, length: int) -> Iterator[int]:
        """The place below and the place above the window, the nearer in length first."""
        below = length - items[low - 1][0] if low else None
        above = items[high][0] - length if high < len(items) else None
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
        item = group.items.pop(at)[2]
        if not group.items:
            del self._groups[key]
        item.is_waiting = False
        self._num_waiting -= 1
        self.num_rows -= item.rows
        return item
