"""Answers shared by all processes: a Redis that is gone, slow or odd is a miss, never an error."""

from __future__ import annotations

import asyncio
import math
import os
import random
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection, Connection, UnixDomainSocketConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ReadOnlyError, RedisError, ResponseError

from cache.breaker import Breaker
from cache.envelope import Damaged, pack, unpack
from cache.kept import Claim, Kept, PurgeLog
from cache.link import Link
from cache.scope import Scope
from headrace.errors import ConfigRejected, EngineUnavailable
from headrace.tensors import TensorMap

_MAX_WAITING = 4096  # commands
_SLICES = 5  # of a timeout: an answer is written for, read and handed on in three rounds of the event loop
_JITTER = 0.1  # of the time to live, so that answers of one moment do not expire in one moment

_LARGEST = 1 << 20  # bytes
_LEASE = b"HRL"  # what a claim starts with; values start otherwise
_PURGES = b"purges"  # the name of the log; no entry has a name without colons
_LOG_LENGTH, _AT_ONCE, _PURGE_S = 1000, 500, 60.0
_NO_CLAIMS_S = 5.0  # after the server took none: it is full, read-only, older than Redis 7

T = TypeVar("T")


class RedisCache:
    """Tensors by key in the Redis at `url` (redis://, rediss:// or unix://), for one event loop.

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
        self._options = _options(url)
        self._prefix = prefix.encode()
        self._timeout_s = timeout_s
        self._on_fault = on_fault
        self._clock = clock
        self._breaker = Breaker()
        self._lease = _LEASE + os.urandom(16)
        self._no_claims_until = -math.inf
        self._questions, self._answers = Link(self._connection), Link(self._connection)

    async def get(self, key: bytes) -> Kept | None:
        """The tensors put under `key`, read-only; None when unknown. What is odd is deleted."""

        async def ask(link: Link) -> Kept | None:
            try:
                return await self._unpacked(link, key, await link.ask("GET", self._name(key)))
            except ResponseError as err:
                await self._delete_other_type(link, key, err)
                return None

        return await self._call(self._questions, ask)

    async def claim(self, key: bytes, lease_s: float) -> Kept | Claim:
        """The tensors put under `key`; or who is to compute them: the caller for `lease_s` at most."""
        if self._clock() < self._no_claims_until:
            return await self.get(key) or Claim.NONE
        lease = ("SET", self._name(key), self._lease, "PX", round(1000 * lease_s))

        async def ask(link: Link) -> Kept | Claim:
            try:
                value = await link.ask(*lease, "NX", "GET")
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

        claimed = await self._call(self._questions, ask)
        if claimed is None and self._clock() < self._no_claims_until:
            claimed = await self.get(key)
        return claimed or Claim.NONE

    async def renew(self, key: bytes, lease_s: float) -> None:
        """Computing what was claimed takes longer."""

        async def tell(link: Link) -> None:
            await link.ask("SET", self._name(key), self._lease, "PX", round(1000 * lease_s), "XX")

        await self._call(self._questions, tell)

    async def release(self, key: bytes) -> None:
        """What was claimed will not be put: let another compute it."""

        async def tell(link: Link) -> None:
            name = self._name(key)
            if await link.ask("GET", name) == self._lease:
                await link.ask("DEL", name)

        await self._call(self._answers, tell)  # after what was written before

    async def put(self, key: bytes, outputs: TensorMap, ttl_s: float) -> None:
        """Keep `outputs` under `key` for `ttl_s` seconds less up to a tenth, if Redis lets us and they are
        not over 1 MiB: a larger value takes so long to write that it would pass for a fault of Redis."""
        if sum(array.nbytes for array in outputs.values()) > _LARGEST:
            await self.release(key)
            return
        life_s = ttl_s * (1 - _JITTER * random.random())  # noqa: S311 - spreads, guards nothing

        async def tell(link: Link) -> None:
            value = pack(key, outputs, time.time())
            await link.ask("SET", self._name(key), value, "PX", max(1, round(1000 * life_s)))

        await self._call(self._answers, tell)

    async def drop(self, key: bytes) -> None:
        async def tell(link: Link) -> None:
            await link.ask("UNLINK", self._name(key))

        await self._call(self._answers, tell)  # after what was written before

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

        return await self._call(self._questions, ask)

    async def purge(self, scope: Scope) -> int:
        """Delete what the scope holds, and log that it is to be forgotten everywhere; how many there were.

        EngineUnavailable when not all of that could be done.
        """
        count = 0
        try:
            async with asyncio.timeout(_PURGE_S), self._client() as client:
                await self._log_purge(client, scope)
                names: list[bytes] = []
                async for name in self._scan(client, scope):
                    names.append(name)
                    if len(names) == _AT_ONCE:
                        count += await client.unlink(*names)
                        names.clear()
                if names:
                    count += await client.unlink(*names)
                # Again: meanwhile somebody may have read, and remembered, what was not deleted yet.
                await self._log_purge(client, scope)
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
            async with asyncio.timeout(_PURGE_S), self._client() as client:
                async for name in self._scan(client, Scope()):
                    model, version, _ = name[len(self._prefix) :].decode().split(":", 2)
                    counts[f"{model}/{version}"] += 1
                told = await client.info("memory")
        except (RedisError, OSError, TimeoutError) as err:
            self._on_fault(type(err).__name__)
            raise EngineUnavailable("the shared cache did not answer; try again") from None
        return {
            "answers": dict(counts),
            "bytes": told["used_memory"],
            "max_bytes": told["maxmemory"],
            "policy": told["maxmemory_policy"],
        }

    def _scan(self, client: Redis, scope: Scope) -> AsyncIterator[bytes]:
        """The names of all entries in the scope."""
        return client.scan_iter(_escaped(self._prefix) + scope.pattern().encode(), count=1000)

    async def _log_purge(self, client: Redis, scope: Scope) -> None:
        name = self._name(_PURGES)
        length = await client.llen(name)
        if length >= _LOG_LENGTH:
            await client.delete(name)
        if not 0 < length < _LOG_LENGTH:
            await client.rpush(name, f"log {os.urandom(16).hex()}")
        await client.rpush(name, scope.dumps())

    async def close(self) -> None:
        """Give the connections back; a later call, in whichever event loop, opens new ones."""
        await self._questions.close()
        await self._answers.close()

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

    def _connection(self) -> AbstractConnection:
        return _connection(self._options)

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[Redis]:
        """For what is rare and may take long."""
        client = Redis.from_pool(ConnectionPool(**self._options))
        try:
            yield client
        finally:
            await client.aclose()

    async def _call(self, link: Link, command: Callable[[Link], Awaitable[T]]) -> T | None:
        if self._breaker.is_open(self._clock()):
            return None
        if len(link) >= _MAX_WAITING:
            self._on_fault("Busy")  # more than it can do, and no news of a fault
            return None
        if not self._breaker.enter(self._clock()):
            return None
        began = asyncio.get_running_loop().time()
        try:
            async with _within(self._timeout_s):
                result = await command(link)
        except ResponseError as err:  # full, read-only, not permitted: but it answers, so it may be read
            self._on_fault(type(err).__name__)
            self._breaker.succeeded()
            if isinstance(err, ReadOnlyError):  # a replica now: its name may lead to the new primary
                link.drop()
            return None
        except Exception as err:  # any: no fault of a cache may reach the caller
            self._on_fault(type(err).__name__)
            self._breaker.failed(self._clock())
            if isinstance(err, TimeoutError) and link.is_silent_since(began):
                link.drop()
            return None
        except BaseException:
            self._breaker.left()
            raise
        self._breaker.succeeded()
        return result


@asynccontextmanager
async def _within(timeout_s: float) -> AsyncIterator[None]:
    """A timeout of others, not of ours: while this process is busy the answer may lie in the socket unread,
    and takes a few rounds of the event loop. So time passes in slices, each once the last was noticed."""
    loop = asyncio.get_running_loop()
    slice_s = timeout_s / _SLICES
    async with asyncio.timeout(None) as timeout:
        timer = loop.call_later(slice_s, lambda: passed(_SLICES - 1))

        def passed(left: int) -> None:
            nonlocal timer
            if left:
                timer = loop.call_later(slice_s, passed, left - 1)
            else:
                timeout.reschedule(loop.time())

        try:
            yield
        finally:
            timer.cancel()


def _escaped(name: bytes) -> bytes:
    """The name as a pattern that matches itself only."""
    return re.sub(rb"([*?\[\]\\])", rb"\\\1", name)


def _options(url: str) -> dict[str, Any]:
    """What a connection pool is made of; ours win over the URL's, whose password no error may show."""
    try:
        options: dict[str, Any] = {
            **parse_url(url),
            "socket_connect_timeout": None,  # each call has its deadline, and lets go of what is silent
            "socket_timeout": None,
            "retry": Retry(NoBackoff(), 0),  # the default blocks for over 20 s
            "protocol": 2,  # every server speaks it, and a connection then starts without a greeting
            "driver_info": None,
            "decode_responses": False,
        }
        made = _connection(options)  # an option that does not exist shows here, not with the first request
        if isinstance(made, UnixDomainSocketConnection) and (
            not options.get("path") or urlsplit(url).hostname
        ):
            raise ValueError("no absolute path")
    except (ValueError, TypeError, AttributeError, RedisError):
        raise ConfigRejected(_WANTED) from None  # the cause may quote the password
    return options


def _connection(options: dict[str, Any]) -> AbstractConnection:
    """One that is not connected yet, as a pool of these options would make it."""
    kind: type[AbstractConnection] = options.get("connection_class", Connection)
    return kind(**{name: value for name, value in options.items() if name not in _OF_THE_POOL})


_OF_THE_POOL = ("connection_class", "max_connections")
_WANTED = (
    "cache.url is no URL of a Redis; wanted: redis://[user:password@]host[:port][/db], "
    "rediss:// likewise for TLS, or unix:///path/to/socket[?db=0]"
)
