"""Answers shared by all processes: a Redis that is gone, slow or odd is a miss, never an error."""

from __future__ import annotations

import asyncio
import math
import os
import random
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.exceptions import AskError, ClusterDownError, ReadOnlyError, RedisError, ResponseError

from cache.envelope import Damaged, pack, unpack
from cache.kept import Claim, Kept, PurgeLog
from cache.link import Link
from cache.places import Node, place_of
from cache.scope import Scope
from headrace.errors import EngineUnavailable, HeadraceError
from headrace.tensors import TensorMap

_MAX_WAITING = 4096  # commands
_JITTER = 0.1  # of the time to live, so that answers of one moment do not expire in one moment

_LARGEST = 1 << 20  # bytes
_LEASE = b"HRL"  # what a claim starts with; values start otherwise
_PURGES = b"purges"  # the name of the log; no entry has a name without colons
_LOG_LENGTH, _AT_ONCE, _PURGE_S = 1000, 500, 60.0
_SIZE_S = 1.0
_NO_CLAIMS_S = 5.0  # after the server took none: it is full, read-only, older than Redis 7

T = TypeVar("T")


class RedisCache:
    """Tensors by key in the Redis at `url` (`cache.places` tells which there are), for one event loop.

    A call waits at most `timeout_s` for its answer, connecting included. It never raises: whatever goes
    wrong is a miss, told to `on_fault` by the name of the error. ConfigRejected for a URL that cannot be
    used. Answers are written over a connection of their own, so that no question waits for a large one.
    """

    def __init__(
        self,
        url: str,
        prefix: str,
        timeout_s: float,
        *,
        on_fault: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._place = place_of(url, timeout_s)
        self._prefix = prefix.encode()
        self._timeout_s = timeout_s
        self._on_fault = on_fault
        self._clock = clock
        self._lease = _LEASE + os.urandom(16)
        self._no_claims_until = -math.inf

    async def get(self, key: bytes) -> Kept | None:
        """The tensors put under `key`, read-only; None when unknown. What is odd is deleted."""

        async def ask(link: Link) -> Kept | None:
            try:
                return await self._unpacked(link, key, await link.ask("GET", self._name(key)))
            except ResponseError as err:
                await self._delete_other_type(link, key, err)
                return None

        return await self._ask(key, ask)

    async def claim(self, key: bytes, lease_s: float) -> Kept | Claim:
        """The tensors put under `key`; or who is to compute them: the caller for `lease_s` at most."""
        if self._clock() < self._no_claims_until:
            return await self.get(key) or Claim.NONE
        lease = ("SET", self._name(key), self._lease, "PX", round(1000 * lease_s))

        async def ask(link: Link) -> Kept | Claim:
            try:
                value = await link.ask(*lease, "NX", "GET")
            except (AskError, ClusterDownError):
                raise
            except ResponseError as err:
                self._no_claims_until = self._clock() + _NO_CLAIMS_S
                await self._delete_other_type(link, key, err)
                self._no_claims_until = -math.inf
                value = None
            if value is None or value == self._lease:
                return Claim.MINE
            if value.startswith(_LEASE):
                return Claim.TAKEN
            if (kept := await self._unpacked(link, key, value)) is None:
                await link.ask(*lease)
            return kept or Claim.MINE

        claimed = await self._ask(key, ask)
        if claimed is None and self._clock() < self._no_claims_until:
            claimed = await self.get(key)
        return claimed or Claim.NONE

    async def renew(self, key: bytes, lease_s: float) -> None:
        """Computing what was claimed takes longer."""

        async def tell(link: Link) -> None:
            await link.ask("SET", self._name(key), self._lease, "PX", round(1000 * lease_s), "XX")

        await self._ask(key, tell)

    async def release(self, key: bytes) -> None:
        """What was claimed will not be put: let another compute it."""

        async def tell(link: Link) -> None:
            name = self._name(key)
            if await link.ask("GET", name) == self._lease:
                await link.ask("DEL", name)

        await self._tell(key, tell)  # after what was written before

    def put(self, key: bytes, outputs: TensorMap, ttl_s: float) -> asyncio.Future[None]:
        """Keep `outputs` under `key` for `ttl_s` seconds less up to a tenth, if Redis lets us and they are
        not over 1 MiB: a larger value takes so long to write that it would pass for a fault of Redis.

        What is given back is done when it is written, or has failed."""
        if sum(array.nbytes for array in outputs.values()) > _LARGEST:
            return asyncio.ensure_future(self.release(key))
        life_s = ttl_s * (1 - _JITTER * random.random())  # noqa: S311 - spreads, guards nothing
        name = self._name(key)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        node = self._place.node(name)
        if node is None or not self._may_call(node, node.answers):
            done.set_result(None)
            return done
        try:
            value = pack(key, outputs, time.time())
        except HeadraceError as err:  # a tensor that the protocol does not have
            node.breaker.left()
            self._on_fault(type(err).__name__)
            return asyncio.ensure_future(self.release(key))
        asked = node.answers.ask("SET", name, value, "PX", max(1, round(1000 * life_s)))

        def answered(asked: asyncio.Future[Any]) -> None:
            if asked.cancelled():
                node.breaker.left()
            elif (err := asked.exception()) is not None:
                self._failed(node, node.answers, err)
            else:
                node.breaker.succeeded()
            if not done.done():
                done.set_result(None)

        asked.add_done_callback(answered)
        return done

    async def drop(self, key: bytes) -> None:
        async def tell(link: Link) -> None:
            await link.ask("UNLINK", self._name(key))

        await self._tell(key, tell)  # after what was written before

    async def purges(self, seen: int) -> PurgeLog | None:
        """What was purged after the first `seen` entries of the log; None when nobody can tell."""

        async def ask(link: Link) -> PurgeLog:
            name = self._name(_PURGES)
            answers = [
                link.ask("LINDEX", name, 0),
                link.ask("LLEN", name),
                link.ask("LRANGE", name, seen, -1),
            ]
            first, length, entries = await asyncio.gather(*answers)
            return PurgeLog(first, length, [scope for entry in entries if (scope := Scope.loads(entry))])

        return await self._ask(_PURGES, ask)

    async def purge(self, scope: Scope) -> int:
        """Delete what the scope holds, and log that it is to be forgotten everywhere; how many there were.

        EngineUnavailable when not all of that could be done.
        """
        count = 0
        try:
            async with asyncio.timeout(_PURGE_S), self._place.clients() as clients:
                await self._log_purge(scope)
                for client in clients:
                    names: list[bytes] = []
                    async for name in self._scan(client, scope):
                        names.append(name)
                        if len(names) == _AT_ONCE:
                            count += await _unlink(client, names)
                            names.clear()
                    count += await _unlink(client, names)
                # Again: meanwhile somebody may have read, and remembered, what was not deleted yet.
                await self._log_purge(scope)
        except (RedisError, OSError, TimeoutError) as err:
            self._on_fault(type(err).__name__)
            raise EngineUnavailable(
                f"{count} answers were purged, then the shared cache did not answer; try again"
            ) from None  # the cause may quote the URL
        return count

    async def stats(self) -> dict[str, Any]:
        """How many answers of each model version there are, and the server's memory; EngineUnavailable when
        it cannot be asked."""
        counts: Counter[str] = Counter()
        try:
            async with asyncio.timeout(_PURGE_S), self._place.clients() as clients:
                told = [await client.info("memory") for client in clients]
                for client in clients:
                    async for name in self._scan(client, Scope()):
                        model, version, _ = name[len(self._prefix) :].decode().split(":", 2)
                        counts[f"{model}/{version}"] += 1
        except (RedisError, OSError, TimeoutError) as err:
            self._on_fault(type(err).__name__)
            raise EngineUnavailable("the shared cache did not answer; try again") from None
        return {"answers": dict(counts), **_memory(told)}

    async def size(self) -> dict[str, Any]:
        """How many entries there are in the server's database, whoever's, and its memory: one question,
        whatever it holds. EngineUnavailable when it cannot be asked."""
        try:
            async with asyncio.timeout(_SIZE_S), self._place.clients() as clients:
                told = [await client.info("memory") for client in clients]
                entries = sum([await client.dbsize() for client in clients])
        except (RedisError, OSError, TimeoutError) as err:
            self._on_fault(type(err).__name__)
            raise EngineUnavailable("the shared cache did not answer; try again") from None
        return {"entries": entries, **_memory(told)}

    def _scan(self, client: Redis, scope: Scope) -> AsyncIterator[bytes]:
        """The names of all entries in the scope."""
        return client.scan_iter(_escaped(self._prefix) + scope.pattern().encode(), count=1000)

    async def _log_purge(self, scope: Scope) -> None:
        name = self._name(_PURGES)
        if (node := self._place.node(name)) is None:
            raise RedisError("nobody knows yet where the log of purges is")
        ask = partial(node.questions.ask, is_patient=True)
        length = await ask("LLEN", name)
        if length >= _LOG_LENGTH:
            await ask("DEL", name)
        if not 0 < length < _LOG_LENGTH:
            await ask("RPUSH", name, f"log {os.urandom(16).hex()}")
        await ask("RPUSH", name, scope.dumps())

    async def close(self) -> None:
        """Give the connections back; a later call, in whichever event loop, opens new ones."""
        await self._place.close()

    async def _unpacked(self, link: Link, key: bytes, value: Any) -> Kept | None:
        if value is None or value.startswith(_LEASE):
            return None
        try:
            outputs, made_at = unpack(key, value)
        except Damaged as err:
            self._on_fault(type(err).__name__)
            await link.ask("DEL", self._name(key))
            return None
        return Kept(outputs, max(0.0, time.time() - made_at))  # by the clocks of two machines

    async def _delete_other_type(self, link: Link, key: bytes, err: ResponseError) -> None:
        """A list or the like under our name goes; any other error is raised again."""
        if not str(err).startswith("WRONGTYPE"):
            raise err
        self._on_fault(type(err).__name__)
        await link.ask("DEL", self._name(key))

    def _name(self, key: bytes) -> bytes:
        return self._prefix + key

    async def _ask(self, key: bytes, command: Callable[[Link], Awaitable[T]]) -> T | None:
        node = self._place.node(self._name(key))
        return None if node is None else await self._call(node, node.questions, command)

    async def _tell(self, key: bytes, command: Callable[[Link], Awaitable[T]]) -> T | None:
        """Over the connection for what is written, in the order in which it is told."""
        node = self._place.node(self._name(key))
        return None if node is None else await self._call(node, node.answers, command)

    async def _call(self, node: Node, link: Link, command: Callable[[Link], Awaitable[T]]) -> T | None:
        if not self._may_call(node, link):
            return None
        breaker = node.breaker
        try:
            result = await command(link)
        except Exception as err:  # any: no fault of a cache may reach the caller
            self._failed(node, link, err)
            return None
        except BaseException:
            breaker.left()
            raise
        breaker.succeeded()
        return result

    def _may_call(self, node: Node, link: Link) -> bool:
        """When it may, the breaker is to be told how it ended."""
        if node.breaker.is_open(self._clock()):
            self._place.moved()
            return False
        if len(link) >= _MAX_WAITING:
            self._on_fault("Busy")  # more than it can do, and no news of a fault
            return False
        return node.breaker.enter(self._clock())

    def _failed(self, node: Node, link: Link, err: BaseException) -> None:
        self._on_fault(type(err).__name__)
        if isinstance(err, ResponseError):  # full, read-only, not permitted: it answers, so it may be read
            node.breaker.succeeded()
            if isinstance(err, ReadOnlyError):  # a replica now: its name may lead to the new primary
                link.drop()
            if isinstance(err, ReadOnlyError | AskError | ClusterDownError):
                self._place.moved()
            return
        node.breaker.failed(self._clock())
        self._place.moved()
        silent_since = asyncio.get_running_loop().time() - self._timeout_s / 2
        if isinstance(err, TimeoutError) and link.is_silent_since(silent_since):
            link.drop()


async def _unlink(client: Redis, names: list[bytes]) -> int:
    """One command for each: together they need not lie on one node's slot."""
    async with client.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.unlink(name)
        return sum(await pipeline.execute()) if names else 0


def _escaped(name: bytes) -> bytes:
    """The name as a pattern that matches itself only."""
    return re.sub(rb"([*?\[\]\\])", rb"\\\1", name)


def _memory(told: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of all servers together, by what each says of its memory."""
    limits = [each["maxmemory"] for each in told]
    return {
        "bytes": sum(each["used_memory"] for each in told),
        "max_bytes": sum(limits) if all(limits) else 0,
        "policy": ", ".join(sorted({each["maxmemory_policy"] for each in told})),
    }
