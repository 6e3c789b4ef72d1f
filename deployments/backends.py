"""Where a model runs: in the gateway's own process, or on replicas behind a handle."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from ray.serve.handle import DeploymentHandle

from autoscaling.offered import Offered
from autoscaling.reports import GatewayReport
from batching.queue import Item, level_of
from batching.service import ServiceTime
from batching.shapes import Sizes
from deployments import tracing
from deployments.packs import Pack, Packs
from deployments.retries import RetryBudget
from headrace.config import BatchingConfig
from headrace.errors import DeadlinePassed, EngineUnavailable, HeadraceError, Overloaded
from headrace.requests import Ran, Timings
from headrace.tensors import Signature, TensorMap
from headrace.trace import Traced

_log = logging.getLogger(__name__)
_REACH_S = 5.0


class Backend(Protocol):
    """Runs one checked request; `deadline` is in the running loop's time."""

    async def infer(
        self,
        inputs: TensorMap,
        sizes: Sizes,
        outputs: tuple[str, ...],
        deadline: float | None,
        priority: int = 0,
        trace: Traced | None = None,
    ) -> Ran: ...

    @property
    def num_waiting_rows(self) -> int: ...

    @property
    def queue_fill(self) -> float:
        """Share of the requests that it may hold which it does."""
        ...

    def oldest_s(self) -> float:
        """How long the request whose turn it is has waited; 0 when there is none."""
        ...

    def usual_s(self) -> float:
        """What one more usual request adds to the wait when many wait; 0 as long as nobody knows."""
        ...

    async def close(self) -> None: ...


class Replicas:
    """Requests that wait are packed into few handle calls: a hop costs more than a small model.

    At most `max_calls()` calls are under way; what arrives meanwhile leaves with a later one, in packs of
    requests that may share a batch, at most `max_pack` rows, so that the work stays balanced over the
    replicas. At most `max_queue` requests are held, those under way included.
    """

    def __init__(
        self,
        handle: DeploymentHandle,
        signature: Signature,
        batching: BatchingConfig,
        *,
        max_calls: Callable[[], int],
        max_pack: int,
        max_queue: int,
    ) -> None:
        self._handle = handle
        self._max_calls = max_calls
        self._max_pack = max_pack
        self._max_queue = max_queue
        self._waiting = Packs(signature, batching, max_pack)
        self._calls: set[asyncio.Task[None]] = set()
        self._offered = Offered()
        self._num_sent = 0  # requests under way
        self._service = ServiceTime()  # seconds of a call by its requests
        self._budget = RetryBudget()

    @property
    def num_waiting_rows(self) -> int:
        return self._waiting.num_rows

    @property
    def queue_fill(self) -> float:
        return (len(self._waiting) + self._num_sent) / self._max_queue

    def oldest_s(self) -> float:
        return self._waiting.oldest_s(asyncio.get_running_loop().time())

    def report(self) -> GatewayReport:
        """What is asked of these replicas, as far as this process knows."""
        now = asyncio.get_running_loop().time()
        rows_per_s, elements_per_s = self._offered.per_second(now)
        rows, elements = self._waiting.waiting()
        held = len(self._waiting) + self._num_sent
        return GatewayReport(now, rows_per_s, elements_per_s, rows, elements, held, self.oldest_s())

    def turned_away(self, requests: int) -> None:
        """So many were refused on their way here."""
        self._offered.turned_away(asyncio.get_running_loop().time(), requests)

    async def infer(
        self,
        inputs: TensorMap,
        sizes: Sizes,
        outputs: tuple[str, ...],
        deadline: float | None,
        priority: int = 0,
        trace: Traced | None = None,
    ) -> Ran:
        loop = asyncio.get_running_loop()
        rows = sizes.get("batch", 1)
        self._offered.came(loop.time(), rows, rows * self._waiting.measure(sizes))
        self._admit(deadline)
        level = level_of(priority)
        reply: asyncio.Future[Ran] = loop.create_future()
        item = Item(dict(inputs), outputs, sizes, rows, loop.time(), deadline, reply, level, trace=trace)
        self._waiting.add(item)
        self._budget.earn(1)
        self._pump()
        try:
            async with asyncio.timeout_at(deadline):
                ran = await reply
            return replace(ran, timings=_on_the_way(ran.timings, item, loop.time()))
        except TimeoutError as err:
            raise DeadlinePassed("the request's timeout passed before its answer") from err
        finally:
            self._waiting.discard(item)  # its caller left, or its deadline passed

    async def reach(self) -> None:
        """Learn where the replicas are, so that no request has to wait for that; EngineUnavailable when they
        do not answer now."""
        try:
            async with asyncio.timeout(_REACH_S):
                await self._handle.infer_packed.remote([])
        except Exception as err:
            raise EngineUnavailable("its replicas do not answer yet") from err

    def usual_s(self) -> float:
        if not self._service.can_weigh:
            return 0.0
        return self._service.expected_s(self._max_pack) / self._max_pack / self._max_calls()

    async def close(self) -> None:
        """Finish the calls that are under way."""
        while self._calls:
            await asyncio.wait(self._calls)

    def _admit(self, deadline: float | None) -> None:
        """Overloaded when the queue is full, or when earlier calls will take until after the deadline.

        The replica looks closer when the request gets there; here only the calls before it count.
        """
        rounds = math.ceil(len(self._waiting) / (self._max_pack * self._max_calls()))
        wait_s = rounds * self._service.expected_s(self._max_pack) if self._waiting else 0.0
        num_held = len(self._waiting) + self._num_sent
        if num_held >= self._max_queue:
            raise Overloaded(f"{num_held} requests are waiting already; try again in {wait_s:.3f} s", wait_s)
        if deadline is not None and asyncio.get_running_loop().time() + wait_s > deadline:
            raise Overloaded(
                "the answer would come after the request's timeout; "
                f"try again in {wait_s:.3f} s, or with more time",
                wait_s,
            )

    def _pump(self) -> None:
        loop = asyncio.get_running_loop()
        while len(self._waiting) and len(self._calls) < self._max_calls():
            pack = self._waiting.next(loop.time())
            # A context of its own: Serve ties calls to the request whose context they carry, and
            # that one caller's leaving would cancel the others' work.
            task = loop.create_task(self._call(pack), context=contextvars.Context())
            self._calls.add(task)
            task.add_done_callback(self._called)

    def _called(self, task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        self._pump()

    async def _call(self, pack: Pack) -> None:
        """Every request of the pack gets an answer, whatever becomes of the call.

        What a replica could not do because it died or is being replaced is tried once more, within the
        deadline and the budget: inference changes nothing.
        """
        self._num_sent += len(pack.items)
        try:
            again = await self._deliver(pack, is_last=False)
            if again:
                await self._deliver(Pack(pack.group, again), is_last=True)
        finally:
            self._num_sent -= len(pack.items)
            for item in pack.items:  # nobody is left waiting, not even when this task is cancelled
                item.settle(_unreachable())

    async def _deliver(self, pack: Pack, *, is_last: bool) -> list[Item]:
        """Send and answer; those that may be tried again are given back."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            answers: list[Ran | HeadraceError] = await self._send(pack)
            self._service.observe(len(pack.items), loop.time() - started)
        except Exception as err:
            _log.warning("a call to the model's replicas failed", exc_info=True)
            failure = _unreachable()
            failure.__cause__ = err
            answers = [failure] * len(pack.items)
        again: list[Item] = []
        now = loop.time()
        for item, answer in zip(pack.items, answers, strict=False):
            may_retry = isinstance(answer, EngineUnavailable) and not is_last and item.is_wanted(now)
            if may_retry and self._budget.take():
                again.append(item)
            else:
                item.settle(answer)
        return again

    async def _send(self, pack: Pack) -> list[Ran | HeadraceError]:
        now = asyncio.get_running_loop().time()
        for item in pack.items:
            item.left_at = now
        message = [
            (
                item.inputs,
                item.outputs,
                None if item.deadline is None else item.deadline - now,
                item.priority,
                item.trace and tracing.packed(item.trace, now),
            )
            for item in pack.items
        ]
        answers: list[Ran | HeadraceError] = await self._handle.infer_packed.remote(message, group=pack.group)
        return answers


def _on_the_way(timings: Timings, item: Item, now: float) -> Timings:
    """With what it waited here, and what it took on the way to the replica and back."""
    hop_s = now - item.left_at - timings.queued_s - timings.ran_s
    return replace(timings, held_s=item.left_at - item.entered_at, hop_s=max(0.0, hop_s))


def _unreachable() -> EngineUnavailable:
    return EngineUnavailable("the model's replicas could not be reached; try again")
