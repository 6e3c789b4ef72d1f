"""Where a model runs: in the gateway's own process, or on replicas behind a handle."""

from __future__ import annotations

import asyncio
import contextvars
import logging
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

    @property
    def num_waiting_rows(self) -> int: ...

    async def close(self) -> None: ...


@dataclass(slots=True, eq=False)
class _Waiting:
    inputs: dict[str, Any]
    outputs: tuple[str, ...]
    deadline: float | None
    rows: int
    reply: asyncio.Future[Ran]

    @property
    def num_bytes(self) -> int:
        return sum(array.nbytes for array in self.inputs.values())


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
        self._waiting: dict[_Waiting, None] = {}  # in order of arrival
        self._calls: set[asyncio.Task[None]] = set()

    @property
    def num_waiting_rows(self) -> int:
        return sum(item.rows for item in self._waiting)

    async def infer(
        self, inputs: TensorMap, sizes: Sizes, outputs: tuple[str, ...], deadline: float | None
    ) -> Ran:
        if len(self._waiting) >= self._max_queue:
            raise Overloaded(f"{self._max_queue} requests are waiting already; try again in a second")
        reply: asyncio.Future[Ran] = asyncio.get_running_loop().create_future()
        item = _Waiting(dict(inputs), outputs, deadline, sizes.get("batch", 1), reply)
        self._waiting[item] = None
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
        """Every request of the pack gets an answer, whatever becomes of the call."""
        failure: BaseException = EngineUnavailable("the model's replicas could not be reached; try again")
        answers: list[Ran | HeadraceError] = []
        try:
            answers = await self._deliver(pack)
        except Exception as err:
            _log.exception("a call to the model's replicas failed")
            failure.__cause__ = err
        finally:
            for number, item in enumerate(pack):
                answer = answers[number] if number < len(answers) else failure
                if item.reply.done():
                    continue
                if isinstance(answer, Ran):
                    item.reply.set_result(answer)
                else:
                    item.reply.set_exception(answer)

    async def _deliver(self, pack: list[_Waiting]) -> list[Ran | HeadraceError]:
        """One call, tried once more: inference changes nothing, and a replica that died took its
        accepted requests with it."""
        try:
            return await self._call_once(pack)
        except Exception:
            _log.warning("a call to the model's replicas failed; trying once more", exc_info=True)
            return await self._call_once(pack)

    async def _call_once(self, pack: list[_Waiting]) -> list[Ran | HeadraceError]:
        now = asyncio.get_running_loop().time()
        message = [
            (item.inputs, item.outputs, None if item.deadline is None else item.deadline - now)
            for item in pack
        ]
        answers: list[Ran | HeadraceError] = await self._handle.infer_packed.remote(message)
        return answers
