"""An answer, from wherever it is nearest: memory, the shared store, a run under way, a run of our own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Protocol

from cache.memory import MemoryCache
from cache.raw import freeze
from headrace.requests import Ran, Tier, Timings
from headrace.tensors import TensorMap

Run = Callable[[], Awaitable[Ran]]

_MAX_WRITES = 256  # to the shared store, under way at once; answers beyond that are not written
_CLOSE_S = 1.0
_FROM_MEMORY = Timings().from_tier("memory")
_FROM_REDIS = Timings().from_tier("redis")


class SharedCache(Protocol):
    """A store that other processes see too; it never raises: what it cannot do is a miss."""

    async def get(self, key: bytes) -> TensorMap | None: ...
    async def put(self, key: bytes, outputs: TensorMap) -> None: ...


@dataclass(slots=True)
class _Flight:
    """One computation under way and all who wait for it, each with a run of its own should this one fail."""

    waiters: dict[asyncio.Future[Ran], tuple[Run, Context]] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None


class ResponseCache:
    """Answers by key, each computed by one caller at a time; for the use of one event loop.

    Outputs are read-only and the same bits whether they were just computed or remembered. Errors are not
    remembered, nor shared: when a run fails, its own caller gets the error and the next who waits runs.
    A caller that is cancelled takes nothing with it; a run that nobody waits for any more is cancelled.
    """

    def __init__(self, memory: MemoryCache, shared: SharedCache | None) -> None:
        self._memory = memory
        self._shared = shared
        self._flights: dict[bytes, _Flight] = {}
        self._attempts: set[asyncio.Task[None]] = set()  # the loop itself keeps no strong reference
        self._writes: set[asyncio.Task[None]] = set()

    def peek(self, key: bytes) -> Ran | None:
        """The answer if this process remembers it, at once."""
        outputs = self._memory.get(key)
        return None if outputs is None else Ran(outputs, _FROM_MEMORY)

    async def get_or_run(self, key: bytes, run: Run) -> Ran:
        """The answer to `key`, from `run` only if nothing else has it; `timings.tier` tells where from.

        Raises what the caller's own `run` raises.
        """
        remembered = self.peek(key)
        if remembered is not None:
            return remembered
        future: asyncio.Future[Ran] = asyncio.get_running_loop().create_future()
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight()
        flight.waiters[future] = (run, copy_context())
        if flight.task is None:
            self._take_off(key, flight)
        try:
            return await future
        finally:
            flight.waiters.pop(future, None)
            if not flight.waiters:
                self._abandon(key, flight)

    async def close(self) -> None:
        """Wait, for at most a second, until what was to be shared is written."""
        if self._writes:
            _, late = await asyncio.wait(self._writes, timeout=_CLOSE_S)
            for write in late:
                write.cancel()

    def _take_off(self, key: bytes, flight: _Flight) -> None:
        """Start the run of the first who waits, in the context of its caller."""
        for future, (run, context) in flight.waiters.items():
            if not future.done():
                attempt = self._attempt(key, flight, future, run)
                flight.task = asyncio.get_running_loop().create_task(attempt, context=context)
                self._attempts.add(flight.task)
                flight.task.add_done_callback(self._attempts.discard)
                return
        self._land(key, flight)

    async def _attempt(self, key: bytes, flight: _Flight, leader: asyncio.Future[Ran], run: Run) -> None:
        try:
            ran = await self._obtain(key, run)
        except BaseException as err:
            self._hand_over(key, flight, leader, err)
            if not isinstance(err, Exception):
                raise
            return
        self._land(key, flight)
        followers: Tier = "flight" if ran.timings.tier == "miss" else ran.timings.tier
        for future in flight.waiters:
            if not future.done():
                tier = ran.timings.tier if future is leader else followers
                future.set_result(Ran(dict(ran.outputs), ran.timings.from_tier(tier)))

    async def _obtain(self, key: bytes, run: Run) -> Ran:
        outputs = None if self._shared is None else await self._shared.get(key)
        if outputs is not None:
            ran = Ran(freeze(outputs), _FROM_REDIS)
        else:
            fresh = await run()
            ran = Ran(freeze(fresh.outputs), fresh.timings.from_tier("miss"))
            self._share(key, ran.outputs)
        self._memory.put(key, ran.outputs)
        return ran

    def _share(self, key: bytes, outputs: TensorMap) -> None:
        if self._shared is None or len(self._writes) >= _MAX_WRITES:
            return
        write = asyncio.get_running_loop().create_task(self._shared.put(key, outputs))
        self._writes.add(write)
        write.add_done_callback(self._writes.discard)

    def _hand_over(
        self, key: bytes, flight: _Flight, leader: asyncio.Future[Ran], err: BaseException
    ) -> None:
        """The error to the one whose run it was, the flight to the next."""
        flight.waiters.pop(leader, None)
        if isinstance(err, asyncio.CancelledError):
            leader.cancel()
        elif not leader.done():
            leader.set_exception(err)
        self._take_off(key, flight)

    def _abandon(self, key: bytes, flight: _Flight) -> None:
        self._land(key, flight)
        if flight.task is not None:
            flight.task.cancel()

    def _land(self, key: bytes, flight: _Flight) -> None:
        """Who comes from now on starts a new flight."""
        if self._flights.get(key) is flight:
            del self._flights[key]
