"""Where a model runs: in the gateway's own process, or on replicas behind a handle."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ray.serve.handle import DeploymentHandle

from batching.service import ServiceTime
from batching.shapes import Sizes
from deployments.retries import RetryBudget
from headrace.errors import DeadlinePassed, EngineUnavailable, HeadraceError, Overloaded
from headrace.requests import Ran
from headrace.tensors import TensorMap

_log = logging.getLogger(__name__)
PACK_BYTES = 8 << 20  # of one handle call; a single larger request travels alone


class Backend(Protocol):
    """Runs one checked request; `deadline` is in the running loop's time."""

    async def infer(
        self,
        inputs: TensorMap,
        sizes: Sizes,
        outputs: tuple[str, ...],
        deadline: float | None,
        priority: int = 0,
    ) -> Ran: ...

    @property
    def num_waiting_rows(self) -> int: ...

    async def close(self) -> None: ...


@dataclass(slots=True, eq=False)
class _Waiting:
    inputs: dict[str, Any]
    outputs: tuple[str, ...]
    deadline: float | None
    priority: int
    rows: int
    reply: asyncio.Future[Ran]

    @property
    def num_bytes(self) -> int:
        return sum(array.nbytes for array in self.inputs.values())

    def is_wanted(self, now: float) -> bool:
        return not self.reply.done() and (self.deadline is None or now < self.deadline)


class Replicas:
    """Requests that wait are packed into few handle calls: a hop costs more than a small model.

    At most `max_calls` calls are under way; what arrives meanwhile leaves together with the next
    one, at most `max_pack` requests at a time, so that the work stays balanced over the replicas.
    At most `max_queue` requests are held, those under way included.
    """

    def __init__(self, handle: DeploymentHandle, *, max_calls: int, max_pack: int, max_queue: int) -> None:
        self._handle = handle
        self._max_calls = max_calls
        self._max_pack = max_pack
        self._max_queue = max_queue
        self._waiting: dict[_Waiting, None] = {}  # in order of arrival
        self._calls: set[asyncio.Task[None]] = set()
        self._num_sent = 0  # requests under way
        self._service = ServiceTime()  # seconds of a call by its requests
        self._budget = RetryBudget()

    @property
    def num_waiting_rows(self) -> int:
        return sum(item.rows for item in self._waiting)

    async def infer(
        self,
        inputs: TensorMap,
        sizes: Sizes,
        outputs: tuple[str, ...],
        deadline: float | None,
        priority: int = 0,
    ) -> Ran:
        self._admit(deadline)
        reply: asyncio.Future[Ran] = asyncio.get_running_loop().create_future()
        item = _Waiting(dict(inputs), outputs, deadline, priority, sizes.get("batch", 1), reply)
        self._waiting[item] = None
        self._budget.earn(1)
        self._pump()
        try:
            async with asyncio.timeout_at(deadline):
                return await reply
        except TimeoutError as err:
            raise DeadlinePassed("the request's timeout passed before its answer") from err
        finally:
            self._waiting.pop(item, None)  # its caller left, or its deadline passed

    async def close(self) -> None:
        """Finish the calls that are under way."""
        while self._calls:
            await asyncio.wait(self._calls)

    def _admit(self, deadline: float | None) -> None:
        """Overloaded when the queue is full, or when earlier calls will take until after the deadline.

        The replica looks closer when the request gets there; here only the calls before it count.
        """
        rounds = math.ceil(len(self._waiting) / (self._max_pack * self._max_calls))
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
        while self._waiting and len(self._calls) < self._max_calls:
            pack = self._next_pack()
            # A context of its own: Serve ties calls to the request whose context they carry, and
            # that one caller's leaving would cancel the others' work.
            task = asyncio.get_running_loop().create_task(self._call(pack), context=contextvars.Context())
            self._calls.add(task)
            task.add_done_callback(self._called)

    def _called(self, task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        self._pump()

    def _next_pack(self) -> list[_Waiting]:
        pack: list[_Waiting] = []
        num_bytes = 0
        for item in self._waiting:
            num_bytes += item.num_bytes
            if len(pack) == self._max_pack or (pack and num_bytes > PACK_BYTES):
                break
            pack.append(item)
        for item in pack:
            del self._waiting[item]
        return pack

    async def _call(self, pack: list[_Waiting]) -> None:
        """Every request of the pack gets an answer, whatever becomes of the call.

        What a replica could not do because it died or is being replaced is tried once more, within the
        deadline and the budget: inference changes nothing.
        """
        self._num_sent += len(pack)
        try:
            again = await self._deliver(pack, is_last=False)
            if again:
                await self._deliver(again, is_last=True)
        finally:
            self._num_sent -= len(pack)
            for item in pack:  # nobody is left waiting, not even when this task is cancelled
                _answer(item, _unreachable())

    async def _deliver(self, pack: Sequence[_Waiting], *, is_last: bool) -> list[_Waiting]:
        """Send and answer; those that may be tried again are given back."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            answers: list[Ran | HeadraceError] = await self._send(pack)
            self._service.observe(len(pack), loop.time() - started)
        except Exception as err:
            _log.warning("a call to the model's replicas failed", exc_info=True)
            failure = _unreachable()
            failure.__cause__ = err
            answers = [failure] * len(pack)
        again: list[_Waiting] = []
        now = loop.time()
        for item, answer in zip(pack, answers, strict=False):
            may_retry = isinstance(answer, EngineUnavailable) and not is_last and item.is_wanted(now)
            if may_retry and self._budget.take():
                again.append(item)
            else:
                _answer(item, answer)
        return again

    async def _send(self, pack: Sequence[_Waiting]) -> list[Ran | HeadraceError]:
        now = asyncio.get_running_loop().time()
        message = [
            (item.inputs, item.outputs, None if item.deadline is None else item.deadline - now, item.priority)
            for item in pack
        ]
        answers: list[Ran | HeadraceError] = await self._handle.infer_packed.remote(message)
        return answers


def _unreachable() -> EngineUnavailable:
    return EngineUnavailable("the model's replicas could not be reached; try again")


def _answer(item: _Waiting, answer: Ran | HeadraceError) -> None:
    if item.reply.done():  # its caller left, or its deadline passed
        return
    if isinstance(answer, Ran):
        item.reply.set_result(answer)
    else:
        item.reply.set_exception(answer)
