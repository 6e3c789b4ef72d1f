"""Where a model runs: in the gateway's own process, or on replicas behind a handle."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import deque
from dataclasses import dataclass
from typing import Any, Protocol

from ray.serve.handle import DeploymentHandle

from batching.shapes import Sizes
from headrace.errors import DeadlinePassed, EngineUnavailable, HeadraceError, Overloaded
from headrace.requests import Ran
from headrace.tensors import TensorMap

_log = logging.getLogger(__name__)
PACK_BYTES = 8 << 20  # of one handle call; a single larger request travels alone


class Backend(Protocol):
    """Runs one checked request; `deadline` is in the running loop's time."""

    async def infer(
        self, inputs: TensorMap, sizes: Sizes, outputs: tuple[str, ...], deadline: float | None
    ) -> Ran: ...

    async def close(self) -> None: ...


@dataclass(slots=True, eq=False)
class _Waiting:
    inputs: dict[str, Any]
    outputs: tuple[str, ...]
    deadline: float | None
    num_bytes: int
    reply: asyncio.Future[Ran]


class Replicas:
    """Requests that wait are packed into few handle calls: a hop costs more than a small model.

    At most `max_calls` calls are under way; what arrives meanwhile leaves together with the next
    one, at most `max_pack` requests at a time, so that the work stays balanced over the replicas.
    """

    def __init__(self, handle: DeploymentHandle, *, max_calls: int, max_pack: int, max_queue: int) -> None:
        self._handle = handle
        self._max_calls = max_calls
        self._max_pack = max_pack
        self._max_queue = max_queue
        self._waiting: deque[_Waiting] = deque()
        self._calls: set[asyncio.Task[None]] = set()

    async def infer(
        self, inputs: TensorMap, sizes: Sizes, outputs: tuple[str, ...], deadline: float | None
    ) -> Ran:
        if len(self._waiting) >= self._max_queue:
            raise Overloaded(f"{self._max_queue} requests are waiting already; try again in a second")
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Ran] = loop.create_future()
        num_bytes = sum(array.nbytes for array in inputs.values())
        self._waiting.append(_Waiting(dict(inputs), outputs, deadline, num_bytes, reply))
        self._pump()
        try:
            async with asyncio.timeout_at(deadline):
                return await reply
        except TimeoutError as err:
            raise DeadlinePassed("the request's timeout passed before its answer") from err

    async def close(self) -> None:
        while self._calls:
            await asyncio.wait(self._calls)

    def _pump(self) -> None:
        while self._waiting and len(self._calls) < self._max_calls:
            pack = self._next_pack()
            if not pack:
                return
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
        while self._waiting and len(pack) < self._max_pack:
            first = self._waiting[0]
            if first.reply.done():  # its caller left, or its deadline passed
                self._waiting.popleft()
                continue
            if pack and num_bytes + first.num_bytes > PACK_BYTES:
                break
            pack.append(self._waiting.popleft())
            num_bytes += first.num_bytes
        return pack

    async def _call(self, pack: list[_Waiting]) -> None:
        now = asyncio.get_running_loop().time()
        message = [
            (item.inputs, item.outputs, None if item.deadline is None else item.deadline - now)
            for item in pack
        ]
        answers: list[Ran | HeadraceError]
        try:
            answers = await self._deliver(message)
        except Exception as err:
            _log.exception("a call to the model's replicas failed")
            failure = EngineUnavailable("the model's replicas could not be reached; try again")
            failure.__cause__ = err
            answers = [failure] * len(pack)
        for item, answer in zip(pack, answers, strict=True):
            if item.reply.done():
                continue
            if isinstance(answer, Ran):
                item.reply.set_result(answer)
            else:
                item.reply.set_exception(answer)

    async def _deliver(self, message: list[Any]) -> list[Ran | HeadraceError]:
        """One call, tried once more: inference changes nothing, and a replica that died took its
        accepted requests with it."""
        try:
            return await self._call_once(message)
        except Exception:
            _log.warning("a call to the model's replicas failed; trying once more", exc_info=True)
            return await self._call_once(message)

    async def _call_once(self, message: list[Any]) -> list[Ran | HeadraceError]:
        answers: list[Ran | HeadraceError] = await self._handle.infer_packed.remote(message)
        return answers
