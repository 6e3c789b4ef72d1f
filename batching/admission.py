"""Who may wait for the engine, and for how long that will be (pure: the time is an argument)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from batching.execute import Batch
from batching.queue import LAST_LEVEL, Item, WaitingQueue
from batching.service import ServiceTime, Spread
from batching.shapes import Sizes
from headrace.errors import DeadlinePassed, Overloaded

_LONG_WAIT = 0.25  # of the time that a request has
_FADING = 0.9  # of the fill of earlier batches
_SIZES = 0.97  # of the sizes of earlier requests


@dataclass(frozen=True, slots=True)
class Load:
    """What there is to do, and what requests take when many wait."""

    work_s: float  # until all that is here is done
    oldest_s: float  # since the one whose turn it is came
    base_s: float  # of a batch
    per_element_s: float
    batch_rows: float
    fill: float  # of a batch's elements, those that are not padding


class Admission:
    """Refuses what finds no room, and what could only be answered after its deadline."""

    def __init__(self, queue: WaitingQueue, service: ServiceTime, *, max_batch: int, permits: int) -> None:
        self._queue = queue
        self._service = service
        self._max_batch = max_batch
        self._permits = permits
        self._waits = Spread()
        self._fill = 1.0  # of the latest batches
        self._full_rows = float(max_batch)  # of the latest that left others behind
        self._rows = self._elements = 0.0  # of a request, on average

    def wait_s(self, priority: int, free_in_s: float) -> float:
        """How long a request that comes now waits for its turn, as far as batches are known; the first engine
        is free in `free_in_s`."""
        rows, elements = self._queue.ahead_of(priority)
        batches = math.ceil(rows / self._max_batch)
        work_s = batches * self._service.base_s + elements / self._fill * self._service.per_element_s
        return free_in_s + work_s / self._permits

    def expected_wait_s(
        self, sizes: Sizes, deadline: float | None, priority: int, now: float, free_in_s: float
    ) -> float:
        """The wait of a request that may come in; 0 when there is none, or it has no deadline.

        Overloaded tells when there is likely to be room, DeadlinePassed that no time would suffice.
        """
        has_room = self._queue.has_room(priority)
        if has_room and deadline is None:
            return 0.0
        wait_s = self.wait_s(priority, free_in_s)
        if not has_room:
            raise Overloaded(
                f"{len(self._queue)} requests are waiting already; try again in {wait_s:.3f} s", wait_s
            )
        assert deadline is not None
        length = self._queue.measure(sizes)
        rows = sizes.get("batch", 1)
        left_s = deadline - now
        alone_s = self._service.expected_s(rows * length)
        if alone_s > left_s:
            raise DeadlinePassed(
                f"such a request takes about {alone_s:.3f} s by itself; {max(0.0, left_s):.3f} s were left "
                "of its timeout: give it more"
            )
        late_s = self._waits.factor * wait_s + self._own_s(rows, length, priority) - left_s
        if wait_s and late_s > 0:
            raise Overloaded(
                f"the answer would come {late_s:.3f} s after the request's timeout; "
                f"try again in {wait_s:.3f} s, or with more time",
                wait_s,
            )
        return wait_s

    def _own_s(self, rows: int, length: int, priority: int) -> float:
        """From its turn to its answer: the batch that it will be in, and those that its other rows need."""
        ahead, _ = self._queue.ahead_of(priority)
        more = math.ceil(rows / self._max_batch) - 1
        more_s = more * self._service.expected_s(self._max_batch * length) / self._permits
        return self._service.likely_s(min(self._max_batch, ahead + rows) * length) + more_s

    def usual_s(self) -> float:
        """What one more usual request adds to the wait when many wait; 0 as long as nobody knows."""
        if not self._service.can_weigh:
            return 0.0
        base_s = self._rows / self._max_batch * self._service.base_s
        return (base_s + self._elements / self._fill * self._service.per_element_s) / self._permits

    def load(self, running_s: float, now: float) -> Load:
        """`running_s` is left of what runs."""
        rows, elements = self._queue.ahead_of(LAST_LEVEL)
        batches = rows / self._full_rows
        waiting_s = batches * self._service.base_s + elements / self._fill * self._service.per_element_s
        return Load(
            work_s=(running_s + waiting_s) / self._permits,
            oldest_s=self._queue.oldest_s(now),
            base_s=self._service.base_s,
            per_element_s=self._service.per_element_s,
            batch_rows=self._full_rows,
            fill=self._fill,
        )

    def began(self, rows: int) -> None:
        """Learn how large batches are when there is a choice."""
        if len(self._queue):
            self._full_rows = _FADING * self._full_rows + (1 - _FADING) * max(rows, 1)

    def came(self, item: Item) -> None:
        """Learn what requests are like."""
        share = 1 - _SIZES if self._rows else 1.0
        self._rows += share * (item.rows - self._rows)
        self._elements += share * (item.rows * item.length - self._elements)

    def waited(self, item: Item, seconds: float) -> None:
        """Learn from waits that could have become too long: short ones differ from what was expected by more.
        Infinite is that of a request whose time passed before its turn."""
        if item.deadline is None:
            return
        if item.expected_wait_s > _LONG_WAIT * (item.deadline - item.entered_at):
            self._waits.observe(seconds, item.expected_wait_s)

    def ran(self, batch: Batch) -> None:
        """Learn how full batches are."""
        self._fill = _FADING * self._fill + (1 - _FADING) * max(batch.fill, 0.01)
