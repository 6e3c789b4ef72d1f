"""Answers shared by all processes: a Redis that is gone, slow or odd is a miss, never an error."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import Connection, UnixDomainSocketConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from cache.envelope import Damaged, pack, unpack
from headrace.errors import ConfigRejected
from headrace.tensors import TensorMap

_CONNECTIONS = 32  # at most, for each cache; more calls than that wait for one
_JITTER = 0.1  # of the time to live, so that answers of one moment do not expire in one moment

T = TypeVar("T")


class Breaker:
    """Says whether to call a neighbour that may be down (pure; the clock, in seconds, is an argument).

    After `FAULTS` in a row it is open: one probe is let through after `FIRST_S`, and after twice the
    time, up to `LAST_S`, for each probe that fails. Any success closes it.
    """

    FAULTS = 3
    FIRST_S = 0.5
    LAST_S = 5.0

    def __init__(self) -> None:
        self.succeeded()

    def is_open(self, now: float) -> bool:
        """True while a call would be turned away."""
        return self._faults >= self.FAULTS and (self._is_probing or now < self._open_until)

    def enter(self, now: float) -> bool:
        """True when the caller may call; it must then tell how that ended, by one of the next three."""
        if self.is_open(now):
            return False
        self._is_probing = self._faults >= self.FAULTS
        return True

    def succeeded(self) -> None:
        self._faults = 0
        self._open_s = self.FIRST_S
        self._open_until = 0.0
        self._is_probing = False

    def failed(self, now: float) -> None:
        if self._faults >= self.FAULTS and not self._is_probing:
            return  # a straggler of the calls that opened it
        self._faults += 1
        self._is_probing = False
        if self._faults >= self.FAULTS:
            self._open_until = now + self._open_s
            self._open_s = min(2 * self._open_s, self.LAST_S)

    def left(self) -> None:
        """The caller was cancelled and knows nothing; the next one may probe."""
        self._is_probing = False


_LARGEST = 1 << 20  # bytes


class RedisCache:
    """Tensors by key in the Redis at `url` (redis://, rediss:// or unix://), for one event loop.

    Values live for `ttl_s` seconds, less up to a tenth. A call waits at most `timeout_s` for a connection
    that is free and as long for the answer, connecting included. It never raises: whatever goes wrong is
    a miss, told to `on_fault` by the name of the error. ConfigRejected for a URL that cannot be used.
    """

    def __init__(
        self,
        url: str,
        prefix: str,
        ttl_s: float,
        timeout_s: float,
        *,
        on_fault: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._options = _options(url, timeout_s)
        self._prefix = prefix
        self._ttl_s = ttl_s
        self._timeout_s = timeout_s
        self._on_fault = on_fault
        self._clock = clock
        self._breaker = Breaker()
        self._client: Redis | None = None  # made on first use: it belongs to the event loop it is used in
        self._slots = asyncio.Semaphore(_CONNECTIONS)  # so does this, from the first call that waits

    async def get(self, key: bytes) -> TensorMap | None:
        """The tensors put under `key`, read-only; None when unknown. A damaged value is deleted."""

        async def ask(client: Redis) -> TensorMap | None:
            value = await client.get(self._name(key))
            if value is None:
                return None
            try:
                return unpack(value)  # type: ignore[arg-type]  # bytes: responses are never decoded
            except Damaged as err:
                self._on_fault(type(err).__name__)
                await client.delete(self._name(key))
                return None

        return await self._call(ask)

    async def put(self, key: bytes, outputs: TensorMap) -> None:
        """Keep `outputs` under `key`, if Redis lets us and they are not over 1 MiB: a larger value takes
        so long to write that it would pass for a fault of Redis."""
        if sum(array.nbytes for array in outputs.values()) > _LARGEST:
            return
        life_s = self._ttl_s * (1 - _JITTER * random.random())  # noqa: S311 - spreads, guards nothing

        async def tell(client: Redis) -> None:
            await client.set(self._name(key), pack(outputs), px=max(1, round(1000 * life_s)))

        await self._call(tell)

    async def close(self) -> None:
        """Give the connections back; a later call, in whichever event loop, opens new ones."""
        client, self._client = self._client, None
        self._slots = asyncio.Semaphore(_CONNECTIONS)
        if client is not None:
            with contextlib.suppress(RedisError, OSError):  # a broken connection is closed all the same
                await client.aclose()

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
