"""Where the shared cache is: one Redis, the primary that Sentinels name, or the primaries of a cluster."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import Context
from functools import partial
from typing import Any, Protocol
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    UnixDomainSocketConnection,
    parse_url,
)
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import RedisError

from cache.breaker import Breaker
from cache.link import Link
from headrace.errors import ConfigRejected

Address = tuple[str, int]
Options = dict[str, Any]

_ASK_S = 0.5  # for what a Sentinel or a node of a cluster tells of the others
_AGAIN_S = 0.5  # between two such questions


class Node:
    """One server: a connection for questions, one for answers, and whether it is worth asking."""

    def __init__(self, make: Callable[[], AbstractConnection], timeout_s: float) -> None:
        self.questions, self.answers = Link(make, timeout_s), Link(make, timeout_s)
        self.breaker = Breaker()

    async def close(self) -> None:
        await self.questions.close()
        await self.answers.close()


class Place(Protocol):
    """Finds the server of an entry; for one event loop."""

    def node(self, name: bytes) -> Node | None:
        """The server that holds an entry; None as long as nobody knows."""
        ...

    def moved(self) -> None:
        """A server failed, or holds an entry no longer: look where it is now, in the background."""
        ...

    def clients(self) -> AbstractAsyncContextManager[list[Redis]]:
        """Of every primary, for what is rare and may take long."""
        ...

    async def close(self) -> None: ...


def place_of(url: str, timeout_s: float) -> Place:
    """What the URL names, each question to it given up after `timeout_s`; ConfigRejected when it names
    nothing, in words that do not quote it."""
    scheme = urlsplit(url).scheme if "://" in url else ""
    base, _, kind = scheme.partition("+")
    if not kind:
        return _Single(_options(url), timeout_s)
    if kind not in ("sentinel", "cluster") or base not in ("redis", "rediss"):
        raise ConfigRejected(_WANTED)
    try:
        parts = urlsplit(url)
        credentials, at, hosts = parts.netloc.rpartition("@")
        seeds = [_address(host, 26379 if kind == "sentinel" else 6379) for host in hosts.split(",")]
        service, _, db = parts.path.strip("/").partition("/")
        query = dict(parse_qsl(parts.query))
    except ValueError:
        raise ConfigRejected(_WANTED) from None
    is_wrong = bool(service) != (kind == "sentinel") or not all(host for host, _ in seeds)
    if is_wrong or not (db == "" or db.isdecimal()):
        raise ConfigRejected(_WANTED)
    secrets = {key: query.pop(f"sentinel_{key}", None) for key in ("username", "password")}
    options = _options(f"{base}://{credentials}{at}localhost/{db}?{urlencode(query)}")
    if kind == "cluster":
        return _Told(options, seeds, timeout_s)
    return _Told(options, seeds, timeout_s, {**options, **secrets, "db": 0}, unquote(service))


class _Single:
    """One server under one address."""

    def __init__(self, options: Options, timeout_s: float) -> None:
        self._options = options
        self._node = Node(partial(connection, options), timeout_s)

    def node(self, name: bytes) -> Node:
        return self._node

    def moved(self) -> None:
        return

    @asynccontextmanager
    async def clients(self) -> AsyncIterator[list[Redis]]:
        client = Redis.from_pool(ConnectionPool(**self._options))
        try:
            yield [client]
        finally:
            await client.aclose()

    async def close(self) -> None:
        await self._node.close()


class _Told:
    """Entries on the servers that others tell of: Sentinels, of the primary of a service, which has all of
    them, or the nodes of a cluster, of the primary of each slot."""

    def __init__(
        self,
        options: Options,
        seeds: list[Address],
        timeout_s: float,
        asked_by: Options | None = None,  # None: who is told of can be asked, too, in the same way
        service: str = "",  # "": a cluster
    ) -> None:
        self._options = options
        self._seeds = seeds
        self._timeout_s = timeout_s
        self._asked_by = asked_by
        self._service = service
        self._nodes: dict[Address, Node] = {}
        self._slots: list[Address | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        self._asking: asyncio.Task[bool] | None = None
        self._ask_at = 0.0

    def node(self, name: bytes) -> Node | None:
        address = self._slots[key_slot(name)]
        if address is None:
            self.moved()
            return None
        return self._nodes[address]

    def moved(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() >= self._ask_at and (self._asking is None or self._asking.done()):
            # A context of its own: it is nobody's request.
            self._asking = loop.create_task(self._look(), context=Context())

    @asynccontextmanager
    async def clients(self) -> AsyncIterator[list[Redis]]:
        if not await self._look():
            raise RedisError("nobody tells where the answers are")
        primaries = {address for address in self._slots if address is not None}
        made = [Redis.from_pool(ConnectionPool(**_at(self._options, each))) for each in sorted(primaries)]
        try:
            yield made
        finally:
            for client in made:
                await client.aclose()

    async def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
        nodes, self._nodes = self._nodes, {}
        self._slots = [None] * REDIS_CLUSTER_HASH_SLOTS
        self._ask_at = 0.0
        for node in nodes.values():
            await node.close()

    async def _look(self) -> bool:
        """Ask one after the other who holds what; whether one told."""
        options = self._asked_by or self._options
        known = list({*self._seeds, *(() if self._asked_by else self._nodes)})
        try:
            for address in random.sample(known, len(known)):
                link = Link(partial(connection, _at(options, address)))
                try:
                    async with asyncio.timeout(_ASK_S):
                        found = await self._ask(link, address)
                except (RedisError, OSError, TimeoutError):
                    continue
                finally:
                    await link.close()
                await self._take(found)
                return True
            return False
        finally:
            self._ask_at = asyncio.get_running_loop().time() + _AGAIN_S

    async def _ask(self, link: Link, asked: Address) -> list[Address | None]:
        """The server of each slot."""
        slots: list[Address | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        if self._service:
            found = await link.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)
            if not found:
                raise RedisError("the Sentinel knows no such service")
            return [(found[0].decode(), int(found[1]))] * REDIS_CLUSTER_HASH_SLOTS
        for first, last, primary, *_ in await link.ask("CLUSTER", "SLOTS"):
            host, port = primary[:2]  # no host: the one that was asked
            slots[first : last + 1] = [(host.decode() if host else asked[0], port)] * (last + 1 - first)
        if not any(slots):
            raise RedisError("a cluster without slots")
        return slots

    async def _take(self, slots: list[Address | None]) -> None:
        wanted = {address for address in slots if address is not None}
        for address in wanted - self._nodes.keys():
            self._nodes[address] = Node(partial(connection, _at(self._options, address)), self._timeout_s)
        self._slots = slots
        for address in self._nodes.keys() - wanted:
            await self._nodes.pop(address).close()


def _at(options: Options, address: Address) -> Options:
    return {**options, "host": address[0], "port": address[1]}


def _address(host: str, usual_port: int) -> Address:
    parts = urlsplit(f"//{host}")
    return parts.hostname or "", parts.port or usual_port


def _options(url: str) -> Options:
    """What a connection pool is made of; ours win over the URL's, whose password no error may show."""
    try:
        options: Options = {
            **parse_url(url),
            "socket_connect_timeout": None,  # each call has its deadline, and lets go of what is silent
            "socket_timeout": None,
            "retry": Retry(NoBackoff(), 0),  # the default blocks for over 20 s
            "protocol": 2,  # every server speaks it, and a connection then starts without a greeting
            "driver_info": None,
            "decode_responses": False,
        }
        made = connection(options)  # an option that does not exist shows here, not with the first request
        if isinstance(made, UnixDomainSocketConnection) and (
            not options.get("path") or urlsplit(url).hostname
        ):
            raise ValueError("no absolute path")
    except (ValueError, TypeError, AttributeError, RedisError):
        raise ConfigRejected(_WANTED) from None  # the cause may quote the password
    return options


def connection(options: Options) -> AbstractConnection:
    """One that is not connected yet, as a pool of these options would make it."""
    kind: type[AbstractConnection] = options.get("connection_class", Connection)
    return kind(**{name: value for name, value in options.items() if name not in _OF_THE_POOL})


_OF_THE_POOL = ("connection_class", "max_connections")
_WANTED = (
    "cache.url is no URL of a Redis; wanted: redis://[user:password@]host[:port][/db], "
    "unix:///path/to/socket[?db=0], redis+sentinel://host[:port][,host...]/service[/db] or "
    "redis+cluster://host[:port][,host...]; with TLS rediss instead of redis"
)
