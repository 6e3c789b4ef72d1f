"""An answer, from wherever it is nearest: memory, the shared store, a run under way, a run of our own."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from cache.halved import Halved
from cache.kept import Claim, Kept
from cache.memory import MemoryCache
from cache.raw import freeze
from cache.scope import Scope
from cache.worth import Mean, Worth
from headrace.errors import DeadlinePassed, NotCached
from headrace.requests import CacheMode, Ran, Tier, Timings
from headrace.tensors import TensorMap

Run = Callable[[], Awaitable[Ran]]

_MAX_WRITES = 256  # to the shared store, under way at once; answers beyond that are not written
_CLOSE_S = 1.0
_LEASE_S = 2.0  # renewed while the answer is computed; when its process dies others wait for so long at most
_PAST_S = 3.0  # a purge is heard of within one
_PUTS, _PURGES = 4096, 1000
_WAITS = 0.5  # of the time a request has left, for another process to answer it
_FIRST_LOOK_S, _LAST_LOOK_S = 0.004, 0.032  # pauses between looks


class SharedCache(Protocol):
    """A store that other processes see too; it never raises: what it cannot do is a miss."""

    async def get(self, key: bytes) -> Kept | None: ...
    async def claim(self, key: bytes, lease_s: float) -> Kept | Claim: ...
    def renew(self, key: bytes, lease_s: float) -> Awaitable[None]: ...
    def drop(self, key: bytes) -> Awaitable[None]: ...
    def release(self, key: bytes) -> Awaitable[None]: ...
    def put(self, key: bytes, outputs: TensorMap, ttl_s: float) -> Awaitable[None]: ...


@dataclass(slots=True)
class _Flight:
    """One computation under way and all who wait for it, each with a run of its own, and a deadline, should
    this one fail."""

    waiters: dict[asyncio.Future[Ran], tuple[Run, Context, float | None]] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None


class ResponseCache:
    """Answers of one model by key, kept for `ttl_s` seconds and each computed by one caller at a time; for
    the use of one event loop. The memory and the shared store may be those of several models.

    Outputs are read-only and the same bits whether they were just computed or remembered. Errors are not
    remembered, nor shared: when a run fails, its own caller gets the error and the next who waits runs.
    A caller that is cancelled takes nothing with it; a run that nobody waits for any more is cancelled.
    """

    def __init__(
        self,
        memory: MemoryCache,
        shared: SharedCache | None,
        ttl_s: float,
        halved: Halved | None = None,
        is_always_shared: bool = True,
    ) -> None:
        self.memory = memory
        self._shared = shared
        self._ttl_s = ttl_s
        self._halved = halved
        self._worth = Worth(is_always_shared)
        self._cost = Mean()  # seconds of the engine for a row
        self._flights: dict[bytes, _Flight] = {}
        self._attempts: set[asyncio.Task[None]] = set()  # the loop itself keeps no strong reference
        self._writes: set[asyncio.Future[None]] = set()
        self._purged: deque[tuple[float, Scope]] = deque(maxlen=_PURGES)
        self._puts: deque[tuple[float, bytes]] = deque(maxlen=_PUTS)  # of late

    async def get_or_run(
        self, key: bytes, run: Run, mode: CacheMode = "use", deadline: float | None = None
    ) -> Ran:
        """The answer to `key`, from `run` only if nothing else has it; `timings.tier` tells where from.

        Raises what the caller's own `run` raises, DeadlinePassed at `deadline` (in the running loop's time)
        and NotCached in mode "only".
        """
        if mode != "refresh" and (kept := self.memory.get(key)) is not None:
            return self._given(kept, "memory")
        try:
            async with asyncio.timeout_at(deadline):
                return await self._get_or_run(key, run, mode, deadline)
        except TimeoutError as err:
            raise DeadlinePassed("the request's timeout passed before its answer") from err

    async def _get_or_run(self, key: bytes, run: Run, mode: CacheMode, deadline: float | None) -> Ran:
        if mode == "refresh":
            return await self._computed(key, run)
        if mode == "only":
            if (ran := await self._from_shared(key)) is None:
                raise NotCached("no answer to this request is remembered, and it asked for no other")
            return ran
        future: asyncio.Future[Ran] = asyncio.get_running_loop().create_future()
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight()
        flight.waiters[future] = (run, copy_context(), deadline)
        if flight.task is None:
            self._take_off(key, flight)
        try:
            return await future
        finally:
            flight.waiters.pop(future, None)
            if not flight.waiters:
                self._abandon(key, flight)

    def forget(self, scope: Scope) -> None:
        """What is in the scope was purged: what was begun before is neither remembered nor joined by others,
        and what was written a moment ago, past the purge, is deleted. The memory is not ours alone: its
        owner has it forget."""
        now = asyncio.get_running_loop().time()
        self._purged.append((now, scope))
        for key in [key for key in self._flights if scope.matches(key)]:
            del self._flights[key]
        if self._shared is not None:
            for put_at, key in self._puts:
                if now - put_at < _PAST_S and scope.matches(key):
                    self._write(partial(self._shared.drop, key))

    async def close(self) -> None:
        """Wait, for at most a second, until what was to be shared is written."""
        if self._writes:
            _, late = await asyncio.wait(self._writes, timeout=_CLOSE_S)
            for write in late:
                write.cancel()

    def _take_off(self, key: bytes, flight: _Flight) -> None:
        """Start the run of the first who waits, in the context of its caller."""
        for future, (run, context, deadline) in flight.waiters.items():
            if not future.done():
                attempt = self._attempt(key, flight, future, self._obtain(key, run, deadline))
                flight.task = asyncio.get_running_loop().create_task(attempt, context=context)
                self._attempts.add(flight.task)
                flight.task.add_done_callback(self._attempts.discard)
                return
        self._land(key, flight)

    async def _attempt(
        self, key: bytes, flight: _Flight, leader: asyncio.Future[Ran], obtaining: Awaitable[Ran]
    ) -> None:
        try:
            ran = await obtaining
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

    async def _obtain(self, key: bytes, run: Run, deadline: float | None) -> Ran:
        """From the shared store, from whoever is computing it, or computed here."""
        if self._shared is None or not self._worth.is_worth_it():
            return await self._computed(key, run, is_shared=False)
        loop = asyncio.get_running_loop()
        now = loop.time()
        until = math.inf if deadline is None else now + _WAITS * (deadline - now)
        tier: Tier = "redis"
        pause_s = _FIRST_LOOK_S
        found = await self._shared.claim(key, _LEASE_S)
        if found is not Claim.NONE:
            self._worth.fetching.add(loop.time() - now)
        while found is Claim.TAKEN and loop.time() + pause_s < until:
            await asyncio.sleep(pause_s)
            tier, pause_s = "flight", min(2 * pause_s, _LAST_LOOK_S)
            found = await self._shared.claim(key, _LEASE_S)
        if isinstance(found, Kept):
            return self._remember(key, found, tier, now)
        if found is Claim.MINE:
            return await self._lead(key, run, self._shared)
        return await self._computed(key, run)

    async def _lead(self, key: bytes, run: Run, shared: SharedCache) -> Ran:
        """Compute what this process has claimed, and tell the others when that fails."""
        loop = asyncio.get_running_loop()
        timer = loop.call_later(_LEASE_S / 2, lambda: renew())

        def renew() -> None:
            nonlocal timer
            self._write(partial(shared.renew, key, _LEASE_S))
            timer = loop.call_later(_LEASE_S / 2, renew)

        try:
            return await self._computed(key, run)
        except BaseException:
            self._write(partial(shared.release, key))
            raise
        finally:
            timer.cancel()

    async def _from_shared(self, key: bytes) -> Ran | None:
        began = asyncio.get_running_loop().time()
        kept = None if self._shared is None else await self._shared.get(key)
        return None if kept is None else self._remember(key, kept, "redis", began)

    def _remember(self, key: bytes, kept: Kept, tier: Tier, began: float) -> Ran:
        kept = Kept(freeze(kept.outputs), kept.age_s)
        if not self._is_purged(key, began):
            self.memory.put(key, kept.outputs, self._ttl_s, kept.age_s)
        return self._given(kept, tier)

    def _given(self, kept: Kept, tier: Tier) -> Ran:
        outputs = kept.outputs if self._halved is None else self._halved.widen(kept.outputs)
        return Ran(outputs, Timings(tier=tier, age_s=kept.age_s, saved_s=self._cost.value))

    async def _computed(self, key: bytes, run: Run, is_shared: bool = True) -> Ran:
        loop = asyncio.get_running_loop()
        began = loop.time()
        fresh = await run()
        timings = fresh.timings.from_tier("miss")
        self._worth.computing.add(loop.time() - began)
        if timings.batch_rows:
            self._cost.add(timings.ran_s / timings.batch_rows)
        outputs = freeze(fresh.outputs if self._halved is None else self._halved.narrow(fresh.outputs))
        shared = self._shared if is_shared else None
        if not self._is_purged(key, began):
            if shared is not None:
                self._puts.append((loop.time(), key))
                self._write(partial(shared.put, key, outputs, self._ttl_s))
            self.memory.put(key, outputs, self._ttl_s)
        elif shared is not None:
            self._write(partial(shared.release, key))
        return Ran(outputs if self._halved is None else self._halved.widen(outputs), timings)

    def _is_purged(self, key: bytes, began: float) -> bool:
        """Whether a purge was heard of since then."""
        for heard_at, scope in reversed(self._purged):
            if heard_at < began:
                break
            if scope.matches(key):
                return True
        return False

    def _write(self, start: Callable[[], Awaitable[None]]) -> None:
        """In the background: nobody waits for it."""
        if len(self._writes) >= _MAX_WRITES:
            return
        write = asyncio.ensure_future(start())
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
