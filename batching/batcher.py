"""Requests in, full batches to the engine, an answer for every request."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import numpy as np

from batching.queue import Item, WaitingQueue
from batching.shapes import Sizes, can_pad, split, stack
from headrace.config import BatchingConfig
from headrace.errors import ConfigRejected, DeadlinePassed, EngineFailed, HeadraceError, Overloaded, TooLarge
from headrace.requests import Ran, Timings
from headrace.tensors import Array, Signature, TensorMap

_log = logging.getLogger(__name__)
_TICK_S = 0.0005  # a timer may fire a little early

RunEngine = Callable[[TensorMap, tuple[str, ...]], dict[str, Array]]
# Executes one group under the given permit and gives an answer or an error for each item.
RunGroup = Callable[[Sequence[Item], int], Awaitable[Sequence["Answer | HeadraceError"]]]


@dataclass(frozen=True, slots=True)
class Answer:
    """One request's outputs, and the batch it ran in."""

    outputs: TensorMap
    batch_rows: int
    fill: float
    ran_s: float


def run_group(run: RunEngine, signature: Signature, items: Sequence[Item]) -> list[Answer | HeadraceError]:
    """Run one group as one batch, blocking. When the batch fails, each request runs alone, so that
    only the bad one fails."""
    try:
        return list(_run_together(run, signature, items))
    except HeadraceError as err:
        if len(items) == 1:
            return [err]
    except Exception as err:
        if len(items) == 1:
            _log.exception("the engine raised")
            failure = EngineFailed("the engine failed on this request; the server's log says why")
            failure.__cause__ = err
            return [failure]
    return [run_group(run, signature, [item])[0] for item in items]


def _run_together(run: RunEngine, signature: Signature, items: Sequence[Item]) -> list[Answer]:
    started = time.perf_counter()
    batch, fill = stack(signature, [item.inputs for item in items])
    outputs = run(batch, items[0].outputs)
    parts = split(signature, outputs, [item.rows for item in items], [item.sizes for item in items])
    ran_s = time.perf_counter() - started
    rows = sum(item.rows for item in items)
    return [Answer(part, rows, fill, ran_s) for part in parts]


def _joined(parts: Sequence[Ran]) -> Ran:
    """The answer to a request that ran in parts."""
    outputs = {name: np.concatenate([part.outputs[name] for part in parts]) for name in parts[0].outputs}
    timings = [part.timings for part in parts]
    return Ran(
        outputs,
        Timings(
            queued_s=timings[0].queued_s,
            ran_s=sum(entry.ran_s for entry in timings),
            batch_rows=max(entry.batch_rows for entry in timings),
        ),
    )


class Batcher:
    """Holds requests while the engine is busy and lets a group go when a permit is free.

    All groups share the permits. Every accepted request gets an answer: its outputs, its own
    error, or DeadlinePassed.
    """

    def __init__(
        self,
        signature: Signature,
        run: RunGroup,
        config: BatchingConfig,
        on_batch: Callable[[Answer], None] = lambda _: None,
    ) -> None:
        if config.grouping == "nearest" and not can_pad(signature):
            raise ConfigRejected(
                "grouping 'nearest' pads inputs and cuts outputs back, but an output of this model has a "
                "variable dimension that no input has; use grouping 'exact'"
            )
        self._run = run
        self._signature = signature
        self._max_batch = config.max_batch
        self._most_rows = config.max_batch * config.max_queue
        self._permits = config.permits
        self._on_batch = on_batch
        self._max_wait_s = config.max_wait_ms / 1000
        self._queue = WaitingQueue(
            signature,
            can_pad=config.grouping == "nearest",
            max_batch=config.max_batch,
            max_padding=config.max_padding,
            max_queue=config.max_queue,
        )
        self._free = list(range(config.permits))
        self._run_s = 0.0  # of the latest batches, smoothed
        self._timer: asyncio.TimerHandle | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._is_closed = False

    @property
    def num_waiting_rows(self) -> int:
        return self._queue.num_rows

    async def submit(
        self, inputs: TensorMap, sizes: Sizes, outputs: tuple[str, ...] = (), deadline: float | None = None
    ) -> Ran:
        """The outputs of one checked request; `deadline` is in the running loop's time.

        A request of more rows than a batch holds is run in parts, so that it neither needs more memory
        than a batch nor keeps the others out: only as many parts wait at a time as keep the engine busy.
        """
        if self._is_closed:
            raise Overloaded("this replica is shutting down; try again")
        rows = sizes.get("batch", 1)
        if rows <= self._max_batch or not self._signature.is_batchable:
            return await self._submit_part(inputs, sizes, outputs, deadline)
        if rows > self._most_rows:
            raise TooLarge(
                f"the request has {rows} rows; at most {self._most_rows} are taken: send it in parts"
            )
        starts = iter(range(0, rows, self._max_batch))
        parts: dict[int, Ran] = {}

        async def run_parts() -> None:
            for start in starts:
                part = {name: array[start : start + self._max_batch] for name, array in inputs.items()}
                part_sizes = {**sizes, "batch": min(self._max_batch, rows - start)}
                parts[start] = await self._submit_part(part, part_sizes, outputs, deadline)

        runners = [asyncio.create_task(run_parts()) for _ in range(2 * self._permits)]
        try:
            await asyncio.gather(*runners)
        finally:
            for task in runners:  # the first error is the request's; what still waits need not run
                task.cancel()
        return _joined([parts[start] for start in sorted(parts)])

    async def _submit_part(
        self, inputs: TensorMap, sizes: Sizes, outputs: tuple[str, ...], deadline: float | None
    ) -> Ran:
        loop = asyncio.get_running_loop()
        now = loop.time()
        reply: asyncio.Future[Answer] = loop.create_future()
        rows = sizes.get("batch", 1)
        item = Item(inputs, outputs, sizes, rows, entered_at=now, deadline=deadline, reply=reply)
        alarm: asyncio.TimerHandle | None = None
        try:
            if deadline is not None:
                alarm = loop.call_at(deadline, self._expire, item)
            self._queue.add(item)
            self._pump()
            answer = await reply
        finally:
            self._queue.discard(item)  # the caller left: nothing of it is left to run
            if alarm is not None:
                alarm.cancel()
        waited_s = max(0.0, loop.time() - now - answer.ran_s)
        return Ran(answer.outputs, Timings(waited_s, answer.ran_s, answer.batch_rows))

    async def close(self) -> None:
        """Refuse new requests and finish those that were accepted."""
        self._is_closed = True
        self._max_wait_s = 0.0
        self._pump()
        while self._running:
            await asyncio.wait(self._running)

    def _expire(self, item: Item) -> None:
        self._queue.discard(item)
        if not item.reply.done():
            item.reply.set_exception(DeadlinePassed("the request's timeout passed before its answer"))

    def _pump(self) -> None:
        """Start as many groups as there are permits and reasons to go."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        while self._free:
            group = self._queue.next_group(loop.time(), max_wait_s=self._max_wait_s, run_s=self._run_s)
            if not group:
                break
            permit = self._free.pop()
            # A context of its own: what belongs to the request that happened to come last
            # (its trace, its cancellation) must not belong to the whole group.
            task = loop.create_task(self._execute(group, permit), context=contextvars.Context())
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        due = self._queue.due_at(max_wait_s=self._max_wait_s, run_s=self._run_s) if self._free else None
        if due is not None:
            self._timer = loop.call_at(max(due, loop.time() + _TICK_S), self._pump)

    async def _execute(self, group: list[Item], permit: int) -> None:
        try:
            answers = await self._run(group, permit)
        except BaseException as err:
            _log.exception("a group could not be run")
            failure = EngineFailed("the batch could not be run; the server's log says why")
            failure.__cause__ = err
            answers = [failure] * len(group)
            if not isinstance(err, Exception):
                raise
        else:
            assert len(answers) == len(group)
        finally:
            self._free.append(permit)
            try:
                self._settle(group, answers)
            finally:
                self._pump()

    def _settle(self, group: list[Item], answers: Sequence[Answer | HeadraceError]) -> None:
        for item, answer in zip(group, answers, strict=True):
            if item.reply.done():  # its caller left, or its deadline passed
                continue
            if isinstance(answer, Answer):
                item.reply.set_result(answer)
            else:
                item.reply.set_exception(answer)
        first = next((answer for answer in answers if isinstance(answer, Answer)), None)
        if first is not None:
            self._run_s = first.ran_s if not self._run_s else 0.8 * self._run_s + 0.2 * first.ran_s
            self._on_batch(first)
