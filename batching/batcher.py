"""Requests in, full batches to the engine, an answer for every request."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from batching.admission import Admission, Load
from batching.execute import Answer, Batch, Result
from batching.parts import in_parts
from batching.queue import DEFAULT_LEVEL, Item, WaitingQueue, level_of
from batching.service import ServiceTime
from batching.shapes import Sizes, can_pad
from batching.threads import Unfinished
from headrace.config import BatchingConfig
from headrace.errors import (
    ConfigRejected,
    DeadlinePassed,
    EngineFailed,
    EngineUnavailable,
    HeadraceError,
    TooLarge,
)
from headrace.requests import Ran, Timings
from headrace.tensors import Signature, TensorMap
from headrace.trace import Traced

_log = logging.getLogger(__name__)
_TICK_S = 0.0005  # a timer may fire a little early
_STALE_S = 1.0  # without a batch for so long, what was learned may be wrong: one request is let through
_HANG_FACTOR = 10  # times what a batch is likely to take
_NOW_S = 0.0001  # a batch that takes no longer runs at once: two changes of thread cost more
_LEARN_S = 0.002

# Executes one group under the given permit and gives an answer or an error for each item.
RunGroup = Callable[[Sequence[Item], int], Awaitable[Sequence[Result]]]
# The same on the event loop's own thread, for what takes less than handing it to another one.
RunNow = Callable[[Sequence[Item]], Sequence[Result]]
# Told of each batch that ran, and of the longest wait in it, in seconds.
OnBatch = Callable[[Batch, float], None]


@dataclass(frozen=True, slots=True)
class _Run:
    """A group in the engine."""

    items: Sequence[Item]
    started_at: float
    expected_s: float
    likely_s: float


class Batcher:
    """Holds requests while the engine is busy and lets a group go when a permit is free.

    All groups share the permits. Every accepted request gets an answer: its outputs, its own
    error, or DeadlinePassed. What cannot be answered before its deadline is refused at once.

    All of it happens on the event loop, but a thread that has run a group takes the next one itself
    (`run_on`): by way of the loop, which has answers to send and requests to read, the engine would wait for
    milliseconds.
    """

    def __init__(
        self,
        signature: Signature,
        run: RunGroup,
        config: BatchingConfig,
        service: ServiceTime | None = None,
        on_batch: OnBatch = lambda _batch, _waited_s: None,
        run_now: RunNow | None = None,
    ) -> None:
        _check_grouping(config, signature)
        self._run = run
        self._run_now = run_now
        self._is_batchable = signature.is_batchable
        self._max_batch = config.max_batch
        self._most_rows = config.max_batch * config.max_queue
        self._permits = config.permits
        self._hang_s = config.hang_s
        self._on_batch = on_batch
        self._max_wait_s = config.max_wait_ms / 1000
        self._service = service or ServiceTime()
        self._lock = threading.RLock()  # for what waits, what runs and the permits
        self._queue = WaitingQueue.of(signature, config, config.max_batch)
        self._admission = Admission(
            self._queue, self._service, max_batch=config.max_batch, permits=config.permits
        )
        self._free = list(range(config.permits))
        self._runs: dict[int, _Run] = {}  # by permit
        self._last_end = -math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._following = 0  # groups whose thread took them itself, and which are not answered yet
        self._gathering = 0  # of how many places
        self._ended = asyncio.Event()
        self._closed = ""  # why nothing more is taken

    @property
    def num_waiting_rows(self) -> int:
        with self._lock:
            return self._queue.num_rows

    @property
    def queue_fill(self) -> float:
        """Share of the requests that may wait which do."""
        with self._lock:
            return self._queue.fill

    async def submit(
        self,
        inputs: TensorMap,
        sizes: Sizes,
        outputs: tuple[str, ...] = (),
        deadline: float | None = None,
        priority: int = 0,
        trace: Traced | None = None,
    ) -> Ran:
        """The outputs of one checked request; `deadline` is in the running loop's time.

        Overloaded tells when to come again. A request of more rows than a batch holds is run in parts,
        so that it neither needs more memory than a batch nor keeps the others out: only as many parts
        wait at a time as keep the engine busy.
        """
        if self._closed:
            raise EngineUnavailable(self._closed)
        priority = level_of(priority)
        rows = sizes.get("batch", 1)
        is_whole = rows <= self._max_batch or not self._is_batchable
        if not is_whole and rows > self._most_rows:
            raise TooLarge(
                f"the request has {rows} rows; at most {self._most_rows} are taken: send it in parts"
            )
        if is_whole and self._is_quick(rows, sizes):
            return self._answer_now(Item(inputs, outputs, sizes, rows, 0.0, deadline, None, trace=trace))
        wait_s = self._admit(sizes, deadline, priority)
        if is_whole:
            return await self._submit_part(inputs, sizes, outputs, deadline, priority, trace, wait_s)

        async def run_part(part: TensorMap, part_sizes: Sizes) -> Ran:
            return await self._submit_part(part, part_sizes, outputs, deadline, priority, trace)

        return await in_parts(run_part, inputs, sizes, self._max_batch, at_once=2 * self._permits)

    def wait_s(self, priority: int = DEFAULT_LEVEL) -> float:
        """How long a request that comes now waits for its turn, as far as batches are known."""
        with self._lock:
            return self._admission.wait_s(priority, self._free_in_s(asyncio.get_running_loop().time()))

    def usual_s(self) -> float:
        """What one more usual request adds to the wait when many wait; 0 as long as nobody knows."""
        return self._admission.usual_s()

    @contextmanager
    def gathering(self) -> Iterator[None]:
        """Within the block requests are taken in, and only then the first group is made of all of them."""
        self._gathering += 1
        try:
            yield
        finally:
            self._gathering -= 1
            self._pump()

    def load(self) -> Load:
        """What there is to do here, as far as batches are known."""
        now = asyncio.get_running_loop().time()
        with self._lock:
            left = [run.started_at + run.expected_s - now for run in self._runs.values()]
            return self._admission.load(sum(max(0.0, left_s) for left_s in left), now)

    def hung(self) -> float | None:
        """The seconds that a batch has run for, when that is far more than it can need."""
        now = asyncio.get_running_loop().time()
        for run in list(self._runs.values()):
            ran_s = now - run.started_at
            if ran_s > max(self._hang_s, _HANG_FACTOR * run.likely_s):
                return ran_s
        return None

    def abandon(self, why: str, *, is_hung: bool) -> None:
        """What waits or comes may go elsewhere, what it holds has failed if it hung."""
        self._closed = why
        for run in list(self._runs.values()) if is_hung else ():
            self._settle(run.items, [EngineFailed(why) for _ in run.items])
        with self._lock:
            while (item := self._queue.first()) is not None:
                self._refuse(item, EngineUnavailable(why))

    async def close(self) -> None:
        """Refuse new requests and finish those that were accepted."""
        self._closed = self._closed or "this replica is shutting down; try again"
        self._max_wait_s = 0.0
        self._pump()
        while self._tasks or self._following:
            self._ended.clear()
            await (asyncio.wait(self._tasks) if self._tasks else self._ended.wait())

    def _is_quick(self, rows: int, sizes: Sizes) -> bool:
        """Whether this request, with nothing before it, is best run where it is."""
        if self._run_now is None or not self._free or len(self._queue) or self._max_wait_s:
            return False
        return self._service.is_known and self._service.expected_s(rows * self._queue.measure(sizes)) < _NOW_S

    def _answer_now(self, item: Item) -> Ran:
        assert self._run_now is not None
        item.target = self._queue.target(item.sizes)
        (result,) = self._run_now([item])
        loop = asyncio.get_running_loop()
        self._last_end = loop.time()
        loop.call_later(_LEARN_S, self._learn, (result,), 0.0)
        if not isinstance(result, Answer):
            raise result
        return Ran(result.outputs, _timings(0.0, result.batch))

    def _admit(self, sizes: Sizes, deadline: float | None, priority: int) -> float:
        """The expected wait; Overloaded unless there is room, and time to answer before the deadline."""
        now = asyncio.get_running_loop().time()
        with self._lock:
            if deadline is not None and self._is_stale(now) and not len(self._queue):
                deadline = None
            return self._admission.expected_wait_s(sizes, deadline, priority, now, self._free_in_s(now))

    def _free_in_s(self, now: float) -> float:
        if self._free:
            return 0.0
        return max(0.0, min(run.started_at + run.expected_s - now for run in self._runs.values()))

    def _is_stale(self, now: float) -> bool:
        return not self._runs and now - self._last_end > _STALE_S

    async def _submit_part(
        self,
        inputs: TensorMap,
        sizes: Sizes,
        outputs: tuple[str, ...],
        deadline: float | None,
        priority: int,
        trace: Traced | None,
        expected_wait_s: float = 0.0,
    ) -> Ran:
        loop = self._loop = asyncio.get_running_loop()
        now = loop.time()
        reply: asyncio.Future[Answer] = loop.create_future()
        rows = sizes.get("batch", 1)
        item = Item(
            inputs, outputs, sizes, rows, now, deadline, reply, priority, expected_wait_s, trace=trace
        )
        alarm: asyncio.TimerHandle | None = None
        try:
            if deadline is not None:
                alarm = loop.call_at(deadline, self._expire, item)
            with self._lock:
                self._queue.add(item)
            self._admission.came(item)
            self._pump()
            answer = await reply
        finally:
            self._discard(item)  # the caller left: nothing of it is left to run
            if alarm is not None:
                alarm.cancel()
        waited_s = max(0.0, loop.time() - now - answer.batch.ran_s)
        return Ran(answer.outputs, _timings(waited_s, answer.batch))

    def _expire(self, item: Item, *, is_late: bool = False) -> None:
        """At its deadline, or before when it waited and could only be late."""
        if is_late or item.is_waiting:
            self._admission.waited(item, math.inf)
        self._refuse(item, DeadlinePassed("the request's timeout passed before its answer"))

    def _refuse(self, item: Item, err: HeadraceError) -> None:
        self._discard(item)
        item.settle(err)

    def _discard(self, item: Item) -> None:
        if item.is_waiting:
            with self._lock:
                self._queue.discard(item)

    def run_on(self, run_now: RunNow, items: Sequence[Item], permit: int) -> Unfinished:
        """For a thread: the results of the permit's group. What waits by then is run on the same thread."""
        results = run_now(items)
        return Unfinished(results, partial(self._go_on, run_now, permit, self._follow(permit)))

    def _follow(self, permit: int) -> _Run | None:
        """The group that the permit's thread, which has run one, is to run next. When there is none, the
        permit is free."""
        with self._lock:
            now = self._last_end = time.monotonic()  # the event loop's clock
            del self._runs[permit]
            late = self._late(now)
            group = self._next_group(now)
            if group:
                self._runs[permit] = self._begun(group, now)
                self._following += 1
            else:
                self._free.append(permit)
            run = self._runs.get(permit)
        for item in late:
            self._loop.call_soon_threadsafe(partial(self._expire, item, is_late=True))
        return run

    def _go_on(self, run_now: RunNow, permit: int, run: _Run | None) -> None:
        while run is not None:
            results: Sequence[Result]
            try:
                results = run_now(run.items)
            except Exception as err:
                results = _failed(run.items, err)
            after = self._follow(permit)
            self._loop.call_soon_threadsafe(self._followed, run, results)
            run = after

    def _followed(self, run: _Run, results: Sequence[Result]) -> None:
        with self._lock:
            self._following -= 1
        self._answer(run, results)
        self._ended.set()
        self._pump()

    def _pump(self) -> None:
        """Start as many groups as there are permits and reasons to go."""
        if self._gathering:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        with self._lock:
            while self._free:
                now = loop.time()
                for item in self._late(now):
                    self._expire(item, is_late=True)
                group = self._next_group(now)
                if not group:
                    break
                self._start(group, now)
            if self._free and len(self._queue):
                due = self._queue.due_at(
                    loop.time(), max_wait_s=self._max_wait_s, estimate=self._service.likely_s
                )
                if due is not None:
                    self._timer = loop.call_at(max(due, loop.time() + _TICK_S), self._pump)

    def _next_group(self, now: float) -> list[Item]:
        # Who is told to wait for full batches gets them; and nothing can be weighed before a batch is known.
        weighs = self._service.can_weigh and not self._max_wait_s
        return self._queue.next_group(
            now, max_wait_s=self._max_wait_s, estimate=self._service.likely_s, weighs=weighs
        )

    def _late(self, now: float) -> list[Item]:
        """Taken out of the queue: what could only be answered after its deadline must not take the time of
        others."""
        late: list[Item] = []
        if self._is_stale(now):
            return late
        while (first := self._queue.first()) is not None and first.deadline is not None:
            if now + self._service.expected_s(first.rows * first.length) <= first.deadline:
                break
            self._queue.discard(first)
            late.append(first)
        return late

    def _begun(self, group: Sequence[Item], now: float) -> _Run:
        rows = sum(item.rows for item in group)
        elements = rows * max(item.length for item in group)
        self._admission.began(rows)
        return _Run(group, now, self._service.expected_s(elements), self._service.likely_s(elements))

    def _start(self, group: list[Item], now: float) -> None:
        permit = self._free.pop()
        run = self._runs[permit] = self._begun(group, now)
        # A context of its own: what belongs to the request that happened to come last
        # (its trace, its cancellation) must not belong to the whole group.
        task = asyncio.get_running_loop().create_task(
            self._execute(run, permit), context=contextvars.Context()
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _execute(self, run: _Run, permit: int) -> None:
        results: Sequence[Result] = []
        try:
            results = await self._run(run.items, permit)
        except BaseException as err:
            results = _failed(run.items, err)
            if not isinstance(err, Exception):
                raise
        finally:
            try:
                self._finish(run, permit, results)
            finally:
                self._pump()

    def _finish(self, run: _Run, permit: int, results: Sequence[Result]) -> None:
        """Answer a group and give its permit back, unless its thread has done so."""
        with self._lock:
            if self._runs.get(permit) is run:
                del self._runs[permit]
                self._free.append(permit)
                self._last_end = asyncio.get_running_loop().time()
        self._answer(run, results)

    def _answer(self, run: _Run, results: Sequence[Result]) -> None:
        assert len(results) == len(run.items)
        self._settle(run.items, results)
        for item in run.items:
            self._admission.waited(item, run.started_at - item.entered_at)
        waited_s = run.started_at - min(item.entered_at for item in run.items)
        # Once the answers have left: those who wait for them come first.
        asyncio.get_running_loop().call_later(_LEARN_S, self._learn, results, waited_s)

    @staticmethod
    def _settle(group: Sequence[Item], results: Sequence[Result]) -> None:
        for item, result in zip(group, results, strict=True):
            item.settle(result)

    def _learn(self, results: Sequence[Result], waited_s: float) -> None:
        batches = {id(result.batch): result.batch for result in results if isinstance(result, Answer)}
        for batch in batches.values():
            self._service.observe(batch.elements, batch.ran_s)
            self._admission.ran(batch)
            self._on_batch(batch, waited_s)


def _timings(waited_s: float, batch: Batch) -> Timings:
    batches = (batch.span,) if batch.span else ()
    return Timings(waited_s, batch.ran_s, batch.rows, padded_s=batch.padded_s, batches=batches)


def _failed(items: Sequence[Item], err: BaseException) -> list[Result]:
    _log.error("a group could not be run", exc_info=err)
    failure = EngineFailed("the batch could not be run; the server's log says why")
    failure.__cause__ = err
    return [failure] * len(items)


def _check_grouping(config: BatchingConfig, signature: Signature) -> None:
    if config.grouping in ("nearest", "buckets") and not can_pad(signature):
        raise ConfigRejected(
            f"grouping '{config.grouping}' pads inputs and cuts outputs back, but an output of this model "
            "has a variable dimension that no input has; use grouping 'exact'"
        )
