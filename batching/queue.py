"""What waits, and which group of it leaves next (pure: the time is an argument)."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from batching.shapes import Sizes, bucket_of, elements, tail
from headrace.config import BatchingConfig
from headrace.errors import TensorRejected
from headrace.tensors import Signature, TensorMap
from headrace.trace import Traced

# By length, then by shape so that equal shapes are neighbours, then by turn.
Order = tuple[int, tuple[int, ...], int]
Estimate = Callable[[float], float]  # elements of a batch, padding included -> seconds that it may run

DEFAULT_LEVEL = 2  # of priority, for a request that names none; 1 is served first, as in Triton
LAST_LEVEL = 8  # any larger number counts as this one
_AGE_S = 1.0  # a level of priority is worth so much waiting: the last comes six seconds after the default
_RESERVED = 0.1
_WINDOW = 2  # batches: only so many of the oldest are looked at for one


@dataclass(slots=True, eq=False)
class Item:
    """One waiting request. `reply` carries its answer back; here it only tells whether it is wanted."""

    inputs: TensorMap
    outputs: tuple[str, ...]
    sizes: Sizes
    rows: int
    entered_at: float
    deadline: float | None
    reply: Any
    priority: int = DEFAULT_LEVEL
    expected_wait_s: float = 0.0  # when it came; 0 when there was none, or nobody asked
    length: int = 0  # elements of one row, in its bucket when there are buckets
    turn: tuple[float, int] = (0.0, 0)  # its place in line
    order: Order = (0, (), 0)
    key: Hashable = None
    target: Sizes | None = None  # its bucket's sizes
    is_waiting: bool = False
    trace: Traced | None = None
    left_at: float = 0.0  # for a replica, if it has

    def settle(self, result: Any) -> None:
        """Answer with a result or an error, unless its caller left or its deadline passed."""
        if self.reply.done():
            return
        if isinstance(result, BaseException):
            self.reply.set_exception(result)
        else:
            self.reply.set_result(result)

    def is_wanted(self, now: float) -> bool:
        """False when its caller left or its deadline passed: it must not reach the engine."""
        if self.reply is not None and self.reply.done():
            return False
        return self.deadline is None or now < self.deadline


def level_of(priority: int) -> int:
    """The level of a request's priority; 0 is none named."""
    return min(priority or DEFAULT_LEVEL, LAST_LEVEL)


def _order(item: Item) -> Order:
    return item.order


def _turn(item: Item) -> tuple[float, int]:
    return item.turn


class WaitingQueue:
    """Requests in the order of their turn, each in its group.

    The turn is the time of arrival, later by a second for each level that the priority is lower, so that
    nothing starves. `exact` groups equal shapes. `nearest` puts everything of one model into one group,
    and a batch is the next request with its nearest neighbours in length, as long as padding makes up at
    most `max_padding` of the batch. Neighbours are sought among the oldest only: whoever may be overtaken
    by any newcomer waits for long, and nobody can tell for how long. With `buckets` a request is padded to
    the smallest that holds it, and a batch is of one bucket; what none holds is refused, or with `oversize`
    "exact" left in its own shape.
    """

    def __init__(
        self,
        signature: Signature,
        *,
        can_pad: bool,
        max_batch: int,
        max_padding: float,
        max_queue: int,
        permits: int = 1,
        buckets: Sequence[Sizes] = (),
        oversize: Literal["refuse", "exact"] = "refuse",
    ) -> None:
        self._signature = signature
        self._can_pad = can_pad
        self._is_batchable = signature.is_batchable
        self._max_batch = max_batch if self._is_batchable else 1
        self._max_padding = max_padding
        self._max_queue = max_queue
        self._permits = permits
        self._buckets = sorted(buckets, key=lambda sizes: elements(signature.inputs, sizes))
        self._oversize = oversize
        self._line: list[Item] = []  # by turn, as each group is
        self._groups: dict[Hashable, list[Item]] = {}
        self._count = 0
        self._rows: Counter[int] = Counter()  # by priority
        self._elements: Counter[int] = Counter()

    @classmethod
    def of(cls, signature: Signature, batching: BatchingConfig, max_batch: int) -> WaitingQueue:
        """A queue that groups as configured, for groups of at most `max_batch` rows."""
        return cls(
            signature,
            can_pad=batching.grouping == "nearest",
            max_batch=max_batch,
            max_padding=batching.max_padding,
            max_queue=batching.max_queue,
            permits=batching.permits,
            buckets=batching.buckets if batching.grouping == "buckets" else (),
            oversize=batching.oversize,
        )

    def __len__(self) -> int:
        return len(self._line)

    @property
    def fill(self) -> float:
        """Share of the places that are taken."""
        return len(self._line) / self._max_queue

    @property
    def num_rows(self) -> int:
        return sum(self._rows.values())

    def ahead_of(self, priority: int) -> tuple[int, int]:
        """The rows and the elements that a newcomer of this priority finds before itself."""
        levels = [level for level in self._rows if level <= priority]
        return sum(self._rows[level] for level in levels), sum(self._elements[level] for level in levels)

    def measure(self, sizes: Sizes) -> int:
        """The elements of one row in the shape it will run in; TensorRejected when no bucket holds it."""
        return elements(self._signature.inputs, self.target(sizes) or sizes)

    def has_room(self, priority: int) -> bool:
        """Whether one more may wait; the last tenth is kept for those above the default priority."""
        reserved = int(self._max_queue * _RESERVED) if priority >= DEFAULT_LEVEL else 0
        return len(self._line) < self._max_queue - reserved

    def add(self, item: Item) -> None:
        """Take a request in, full or not; TensorRejected when no bucket holds it."""
        item.target = self.target(item.sizes)
        sizes = item.target or item.sizes
        item.length = elements(self._signature.inputs, sizes)
        item.is_waiting = True
        self._count += 1
        shape = tail(sizes)
        late_s = _AGE_S * (item.priority - DEFAULT_LEVEL)
        item.turn = (item.entered_at + late_s, self._count)
        item.order = (item.length, shape, self._count)
        item.key = self._key(item, shape)
        insort(self._groups.setdefault(item.key, []), item, key=_turn)
        insort(self._line, item, key=_turn)
        self._rows[item.priority] += item.rows
        self._elements[item.priority] += item.rows * item.length

    def target(self, sizes: Sizes) -> Sizes | None:
        """The sizes of its bucket, None when it runs in its own shape; TensorRejected when no bucket holds
        it and such requests are refused."""
        if not self._buckets:
            return None
        found = bucket_of(sizes, self._buckets)
        if found is None and self._oversize == "refuse":
            largest = {dim: max(bucket[dim] for bucket in self._buckets) for dim in self._buckets[0]}
            raise TensorRejected(f"no bucket holds the sizes {dict(sizes)}; the largest are {largest}")
        return found

    def _key(self, item: Item, shape: tuple[int, ...]) -> Hashable:
        if item.rows == 0 or not self._is_batchable:
            return id(item)  # nothing to share a batch with
        if self._can_pad and not self._buckets:
            return item.outputs
        return (item.outputs, shape)

    def discard(self, item: Item) -> None:
        """Take a request out that nobody waits for any more, and let go of its tensors."""
        if not item.is_waiting:
            return
        self._take(item)
        item.inputs = {}

    def first(self) -> Item | None:
        """Whose turn it is."""
        return self._line[0] if self._line else None

    def oldest_s(self, now: float) -> float:
        """How long the one whose turn it is has waited; 0 when nothing waits."""
        return now - self._line[0].entered_at if self._line else 0.0

    def next_group(
        self, now: float, *, max_wait_s: float, estimate: Estimate, weighs: bool = False
    ) -> list[Item]:
        """The next request and those that run with it; empty when all should wait for more.

        A group leaves when its batch is full, when its first has waited `max_wait_s`, or when waiting
        longer would miss a deadline. It is only as large as its deadlines allow; with `weighs` also only as
        large as is a gain to all who wait, by the estimate.
        """
        for first in self._heads(max_wait_s, estimate):
            batch = self._neighbours(first, now, estimate, weighs)
            if self._leaves_at(first, batch, max_wait_s, estimate) <= now:
                for item in batch:
                    self._take(item)
                return batch
        return []

    def due_at(self, now: float, *, max_wait_s: float, estimate: Estimate) -> float | None:
        """When next_group gives a group though nothing else happens; None when nothing waits."""
        times = [
            self._leaves_at(first, self._neighbours(first, now, estimate), max_wait_s, estimate)
            for first in self._heads(max_wait_s, estimate)
        ]
        return min(times, default=None)

    def _heads(self, max_wait_s: float, estimate: Estimate) -> list[Item]:
        """The requests that a batch may be built around, in the order in which they are asked."""
        first = self.first()
        if first is None:
            return []
        if max_wait_s == 0:
            return [first]  # it is due, whatever the others are
        heads: list[Item] = []
        for items in self._groups.values():
            heads.append(items[0])
            heads.append(min(items, key=lambda item: self._leave_by(item, max_wait_s, estimate)))
        return sorted(heads, key=_turn)

    def _leaves_at(self, first: Item, batch: Sequence[Item], max_wait_s: float, estimate: Estimate) -> float:
        if sum(item.rows for item in batch) >= self._max_batch:
            return first.entered_at
        return min(self._leave_by(item, max_wait_s, estimate) for item in batch)

    def _leave_by(self, item: Item, max_wait_s: float, estimate: Estimate) -> float:
        """When a request is to leave at the latest: twice a batch's time before its deadline, for one may
        be running."""
        aged = item.entered_at + max_wait_s
        if item.deadline is None:
            return aged
        return min(aged, item.deadline - 2 * estimate(item.length * self._max_batch))

    def _neighbours(self, first: Item, now: float, estimate: Estimate, weighs: bool = False) -> list[Item]:
        """Those that leave with `first`, itself among them: next to each other in length."""
        items = self._groups[first.key][: _WINDOW * self._max_batch]
        if first.turn > items[-1].turn:
            items.append(first)
        items.sort(key=_order)
        low = bisect_left(items, first.order, key=_order)
        high = low + 1
        rows, useful, deadline = first.rows, first.rows * first.length, first.deadline
        sizes = dict(first.target or first.sizes)
        ran_s = estimate(useful)
        while rows < self._max_batch:
            for place in self._by_distance(items, low, high, first.length):
                item = items[place]
                if rows + item.rows > self._max_batch:
                    continue
                given = item.target or item.sizes
                largest = {dim: max(size, given[dim]) for dim, size in sizes.items()}
                total = (rows + item.rows) * elements(self._signature.inputs, largest)
                padding = 1 - (useful + item.rows * item.length) / total if total else 0.0
                soonest = _sooner(deadline, item.deadline)
                longer_s = estimate(total) - ran_s
                is_in_time = soonest is None or now + ran_s + longer_s <= soonest
                if padding > self._max_padding or not is_in_time:
                    continue
                if not weighs or self._is_a_gain(item, high - low, longer_s, estimate):
                    break
            else:
                break
            low, high = min(low, place), max(high, place + 1)
            rows, useful, sizes = rows + item.rows, useful + item.rows * item.length, largest
            ran_s, deadline = ran_s + longer_s, soonest
        return items[low:high]

    def _is_a_gain(self, item: Item, count: int, longer_s: float, estimate: Estimate) -> bool:
        """Whether a batch of `count` should take one more, which makes it run for longer.

        Those in it get their answers that much later. The newcomer and all behind get theirs sooner: by what
        it would take alone, which is the more the longer the line is.
        """
        sooner_s = estimate(item.rows * item.length) - longer_s
        behind = (len(self._line) - count) / self._permits
        return sooner_s * behind >= longer_s * count

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

    def _take(self, item: Item) -> None:
        group = self._groups[item.key]
        _remove(group, item)
        if not group:
            del self._groups[item.key]
        _remove(self._line, item)
        item.is_waiting = False
        self._rows[item.priority] -= item.rows
        self._elements[item.priority] -= item.rows * item.length


def _remove(items: list[Item], item: Item) -> None:
    del items[bisect_left(items, item.turn, key=_turn)]


def _sooner(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
