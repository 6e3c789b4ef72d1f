"""Answers shared by all processes: a Redis that is gone, slow or odd is a miss, never an error."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import Connection, UnixDomainSocketConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ReadOnlyError, RedisError, ResponseError

from cache.breaker import Breaker
from cache.envelope import Damaged, pack, unpack
from cache.kept import Claim, Kept
from headrace.errors import ConfigRejected
from headrace.tensors import TensorMap

_CONNECTIONS = 32  # at most, for each cache; more calls than that wait for one
_JITTER = 0.1  # of the time to live, so that answers of one moment do not expire in one moment

_LARGEST = 1 << 20  # bytes
_LEASE = b"HRL"  # what a claim starts with; values start otherwise
_NO_CLAIMS_S = 5.0  # after the server took none: it is full, read-only, older than Redis 7

T = TypeVar("T")


class RedisCache:
    """Tensors by key in the Redis at `url` (redis://, rediss:// or unix://), for one event loop.

    A call waits at most `timeout_s` for a connection
    that is free and as long for the answer, connecting included. It never raises: whatever goes wrong is
    a miss, told to `on_fault` by the name of the error. ConfigRejected for a URL that cannot be used.
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
        self._options = _options(url, timeout_s)
        self._prefix = prefix
        self._timeout_s = timeout_s
        self._on_fault = on_fault
        self._clock = clock
        self._breaker = Breaker()
        self._lease = _LEASE + os.urandom(16)
        self._no_claims_until = -math.inf
        self._client: Redis | None = None  # made on first use: it belongs to the event loop it is used in
        self._slots = asyncio.Semaphore(_CONNECTIONS)  # so does this, from the first call that waits

    async def get(self, key: bytes) -> Kept | None:
        """The tensors put under `key`, read-only; None when unknown. What is odd is deleted."""

        async def ask(client: Redis) -> Kept | None:
            try:
                return await self._unpacked(client, key, await client.get(self._name(key)))
            except ResponseError as err:
                await self._delete_other_type(client, key, err)
                return None

        return await self._call(ask)

    async def claim(self, key: bytes, lease_s: float) -> Kept | Claim:
        """The tensors put under `key`; or who is to compute them: the caller for `lease_s` at most."""
        if self._clock() < self._no_claims_until:
            return await self.get(key) or Claim.NONE
        options: dict[str, Any] = {"px": round(1000 * lease_s)}

        async def ask(client: Redis) -> Kept | Claim:
            name = self._name(key)
            try:
                value: Any = await client.set(name, self._lease, nx=True, get=True, **options)
            except ResponseError as err:
                await self._delete_other_type(client, key, err)
                value = None
            if value is None or value == self._lease:
                return Claim.MINE
            if value.startswith(_LEASE):
                return Claim.TAKEN
            if (kept := await self._unpacked(client, key, value)) is None:
                await client.set(name, self._lease, **options)
            return kept or Claim.MINE

        claimed = await self._call(ask)
        if claimed is None and self._clock() < self._no_claims_until:
            claimed = await self.get(key)
        return claimed or Claim.NONE

    async def renew(self, key: bytes, lease_s: float) -> None:
        """Computing what was claimed takes longer."""

        async def tell(client: Redis) -> None:
            await client.set(self._name(key), self._lease, xx=True, px=round(1000 * lease_s))

        await self._call(tell)

    async def release(self, key: bytes) -> None:
        """What was claimed will not be put: let another compute it."""

        async def tell(client: Redis) -> None:
            name = self._name(key)
            if await client.get(name) == self._lease:
                await client.delete(name)

        await self._call(tell)

    async def put(self, key: bytes, outputs: TensorMap, ttl_s: float) -> None:
        """Keep `outputs` under `key` for `ttl_s` seconds less up to a tenth, if Redis lets us and they are
        not over 1 MiB: a larger value takes so long to write that it would pass for a fault of Redis."""
        if sum(array.nbytes for array in outputs.values()) > _LARGEST:
            await self.release(key)
            return
        life_s = ttl_s * (1 - _JITTER * random.random())  # noqa: S311 - spreads, guards nothing

        async def tell(client: Redis) -> None:
            await client.set(self._name(key), pack(outputs, time.time()), px=max(1, round(1000 * life_s)))

        await self._call(tell)

    async def close(self) -> None:
        """Give the connections back; a later call, in whichever event loop, opens new ones."""
        client, self._client = self._client, None
        self._slots = asyncio.Semaphore(_CONNECTIONS)
        if client is not None:
            with contextlib.suppress(RedisError, OSError):  # a broken connection is closed all the same
                await client.aclose()

    async def _unpacked(self, client: Redis, key: bytes, value: Any) -> Kept | None:
        if value is None or value.startswith(_LEASE):
            return None
        try:
            outputs, made_at = unpack(value)
        except Damaged as err:
            self._on_fault(type(err).__name__)
            await client.delete(self._name(key))
            return None
        return Kept(outputs, max(0.0, time.time() - made_at))  # by the clocks of two machines

    async def _delete_other_type(self, client: Redis, key: bytes, err: ResponseError) -> None:
        """A list or the like under our name goes; any other error is raised again."""
        if not str(err).startswith("WRONGTYPE"):
            raise err
        self._on_fault(type(err).__name__)
        await client.delete(self._name(key))

    def _name(self, key: bytes) -> str:
        return f"{self._prefix}{key.hex()}"

    async def _call(self, command: Callable[[Redis], Awaitable[T]]) -> T | None:
        if self._breaker.is_open(self._clock()):
            return None
        slots = self._slots
        try:
            async with asyncio.timeout(self._timeout_s):
                await slots.acquire()
        except TimeoutError:
            self._on_fault("Busy")  # with us, not with Redis: the breaker stays as it is
            return None
        try:
            return await self._guarded(command)
        finally:
            slots.release()

    async def _guarded(self, command: Callable[[Redis], Awaitable[T]]) -> T | None:
        if not self._breaker.enter(self._clock()):
            return None
        if self._client is None:
            self._client = Redis.from_pool(ConnectionPool(**self._options))
        try:
            async with asyncio.timeout(self._timeout_s):
                result = await command(self._client)
        except ResponseError as err:  # full, read-only, not permitted: but it answers, so it may be read
            self._on_fault(type(err).__name__)
            self._no_claims_until = self._clock() + _NO_CLAIMS_S
            self._breaker.succeeded()
            if isinstance(err, ReadOnlyError):  # a replica now: its name may lead to the new primary
                await self._client.connection_pool.disconnect(inuse_connections=False)
            return None
        except Exception as err:  # any: no fault of a cache may reach the caller
            self._on_fault(type(err).__name__)
            self._breaker.failed(self._clock())
            return None
        except BaseException:
            self._breaker.left()
            raise
        self._breaker.succeeded()
        return result


def _options(url: str, timeout_s: float) -> dict[str, Any]:
    """What a connection pool is made of; ours win over the URL's, whose password no error may show."""
    try:
        options: dict[str, Any] = {
            **parse_url(url),
            "max_connections": _CONNECTIONS,
            "socket_connect_timeout": timeout_s,
            "socket_timeout": None,  # each call has its deadline; asyncio.wait_for may lose a cancellation
            "retry": Retry(NoBackoff(), 0),  # the default blocks for over 20 s
            "protocol": 2,  # every server speaks it, and a connection then starts without a greeting
            "driver_info": None,
            "decode_responses": False,
        }
        connection: type[Any] = options.get("connection_class", Connection)
        known = {name: value for name, value in options.items() if name not in _OF_THE_POOL}
        connection(**known)  # an option that does not exist shows here, not with the first request
        if connection is UnixDomainSocketConnection and (not options.get("path") or urlsplit(url).hostname):
            raise ValueError("no absolute path")
    except (ValueError, TypeError, AttributeError, RedisError):
        raise ConfigRejected(_WANTED) from None  # the cause may quote the password
    return options


_OF_THE_POOL = ("connection_class", "max_connections")
_WANTED = (
    "cache.url is no URL of a Redis; wanted: redis://[user:password@]host[:port][/db], "
    "rediss:// likewise for TLS, or unix:///path/to/socket[?db=0]"
)
