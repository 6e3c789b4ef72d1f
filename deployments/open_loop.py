"""An open-loop HTTP client: requests leave at a rate, however long their answers take.

A closed loop asks less the slower a server answers, so that a stall costs it one slow answer per client
and hides all the requests that would have come meanwhile (coordinated omission). Here every request has
its time beforehand, from a Poisson process, and its latency is counted from that time: also what it
waits in this client for a connection.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import httptools
import numpy as np

from headrace.errors import EngineUnavailable
from headrace.tensors import Array

MAX_SILENCE_S = 60.0  # a connection that gives no answer for so long has failed
_WATCH_EVERY_S = 1.0
_OK = 200

# What is told of a request when it ends: its number, latency in seconds, status and headers of the answer.
OnEnd = Callable[[int, float, int, dict[str, str]], None]


@dataclass(frozen=True, slots=True, eq=False)
class OpenLoad:
    """What came back, in the order of the requests. Times are seconds after the start.

    A status of 0 means that no answer came: the connection failed, or too many were outstanding.
    """

    intended: Array
    left: Array  # when the client had it ready for a connection: the client's own delay, if it was too slow
    latency: Array  # since `intended`
    status: Array
    headers: list[dict[str, str]] = field(default_factory=list)  # only when asked for

    @property
    def num_failed(self) -> int:
        return int((self.status != _OK).sum())

    @property
    def per_second(self) -> float:
        """Requests offered, answered or not."""
        return len(self.intended) / float(self.intended[-1]) if len(self.intended) else 0.0

    def percentile_ms(self, percent: float) -> float:
        """Latency of the good answers; NaN when there was none."""
        good = self.latency[self.status == _OK]
        return float(np.percentile(good, percent)) * 1000 if len(good) else float("nan")

    def late_ms(self, percent: float) -> float:
        """How late this client was itself: where this is much, the latencies are not the server's."""
        return float(np.percentile(self.left - self.intended, percent)) * 1000


def arrivals(count: int, rate_per_s: float, seed: int = 0) -> Array:
    """The times of a Poisson process, seconds after its start, the same ones for the same seed."""
    gaps = np.random.default_rng(seed).exponential(1 / rate_per_s, count)
    return np.cumsum(gaps)


async def open_loop(
    host: str,
    port: int,
    requests: Sequence[bytes],
    rate_per_s: float,
    *,
    seed: int = 0,
    connections: int = 64,
    max_connections: int = 512,
    max_outstanding: int = 4096,
    keep_headers: bool = False,
) -> OpenLoad:
    """Send every request once, at its own time, `rate_per_s` of them on average.

    `connections` are opened before the start and asked in turn; more are added, up to `max_connections`,
    when all are busy. Past `max_outstanding` unanswered requests one fails at once. EngineUnavailable
    when nobody listens at the start.
    """
    times = arrivals(len(requests), rate_per_s, seed)
    return await open_loop_at(
        host,
        port,
        requests,
        times,
        connections=connections,
        max_connections=max_connections,
        max_outstanding=max_outstanding,
        keep_headers=keep_headers,
    )


async def open_loop_at(
    host: str,
    port: int,
    requests: Sequence[bytes],
    times: Array,
    *,
    connections: int = 64,
    max_connections: int = 512,
    max_outstanding: int = 4096,
    keep_headers: bool = False,
    on_end: OnEnd | None = None,
) -> OpenLoad:
    """The same at these times, in seconds after the start. `on_end` hears of every request as it ends."""
    run = _Run(host, port, requests, times)
    run.max_connections = max_connections
    run.max_outstanding = max_outstanding
    run.keep_headers = keep_headers
    run.on_end = on_end
    return await run.all(connections)


class _Connection(asyncio.Protocol):
    """One request at a time on a kept-alive connection."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._status = 0  # of an answer that has ended with the bytes in hand
        self._is_kept = True
        self.number = -1  # of the request that is under way
        self.sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its type

    def send(self, number: int, request: bytes, now: float) -> None:
        assert self._transport is not None
        self.number, self.sent = number, now
        self._transport.write(request)

    def on_message_complete(self) -> None:
        self._status = self._parser.get_status_code()
        self._is_kept = self._parser.should_keep_alive()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()
            return
        if self._status:
            number, self.number = self.number, -1
            status, self._status = self._status, 0
            self._run.answered(self, number, status, self._is_kept)

    def connection_lost(self, exc: Exception | None) -> None:
        self._run.lost(self)

    def close(self) -> None:
        assert self._transport is not None
        self._transport.abort()


class _HeaderConnection(_Connection):
    """The same, which also notes headers: httptools calls what is there, and each call costs."""

    def __init__(self, run: _Run) -> None:
        super().__init__(run)
        self.headers: dict[str, str] = {}

    def on_message_begin(self) -> None:
        self.headers = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")


class _Run:
    """The state of one run. Plain lists: single elements of arrays cost more."""

    def __init__(self, host: str, port: int, requests: Sequence[bytes], times: Array) -> None:
        count = len(requests)
        self._host, self._port = host, port
        self._requests = requests
        self._times: list[float] = times.tolist()
        self._left = [0.0] * count
        self._latency = [0.0] * count
        self._status = [0] * count
        self._headers: list[dict[str, str]] = [{}] * count
        self._next = 0  # the first request whose time has not come
        self._open_requests = 0  # unanswered
        self._remaining = count
        self._waiting: deque[int] = deque()  # for a connection
        # In turn, not the last one first: a server's workers each hold some of the connections.
        self._idle: deque[_Connection] = deque()
        self._connections: set[_Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self.max_connections = 1
        self.max_outstanding = 1
        self.keep_headers = False
        self.on_end: OnEnd | None = None

    async def all(self, connections: int) -> OpenLoad:
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        try:
            for _ in range(max(1, min(connections, self.max_connections))):
                self._idle.append(await self._connect())
            self._start = time.perf_counter()
            if self._requests:
                self._watch()
                self._tick()
                await self._ended
        except OSError as err:
            raise EngineUnavailable(f"nothing answers at {self._host}:{self._port}") from err
        finally:
            for connection in tuple(self._connections):
                connection.close()
        return OpenLoad(
            intended=np.array(self._times),
            left=np.array(self._left),
            latency=np.array(self._latency),
            status=np.array(self._status),
            headers=self._headers if self.keep_headers else [],
        )

    def answered(self, connection: _Connection, number: int, status: int, is_kept: bool) -> None:
        if number < 0:
            connection.close()  # it said something that nobody had asked for
            return
        headers = connection.headers if isinstance(connection, _HeaderConnection) else {}
        if self.keep_headers:
            self._headers[number] = headers
        self._end(number, status, headers)
        if is_kept:
            self._free(connection)
        else:
            connection.close()
        self._send_due()  # timers are good to a millisecond only, and here we are anyway

    def lost(self, connection: _Connection) -> None:
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if connection.number >= 0:
            self._end(connection.number, 0)
        self._open_more()

    def _tick(self) -> None:
        try:
            self._send_due()
        except Exception as err:
            self._ended.set_exception(err)
            return
        if self._next < len(self._times):
            self._loop.call_later(
                max(0.0, self._times[self._next] - (time.perf_counter() - self._start)), self._tick
            )

    def _send_due(self) -> None:
        now = time.perf_counter() - self._start
        while self._next < len(self._times) and self._times[self._next] <= now:
            number = self._next
            self._next += 1
            self._left[number] = now
            if self._open_requests >= self.max_outstanding:
                self._open_requests += 1
                self._end(number, 0)
                continue
            self._open_requests += 1
            if self._idle:
                self._idle.popleft().send(number, self._requests[number], now)
            else:
                self._waiting.append(number)
                self._open_more()

    def _free(self, connection: _Connection) -> None:
        if self._waiting:
            number = self._waiting.popleft()
            connection.send(number, self._requests[number], time.perf_counter() - self._start)
        else:
            self._idle.append(connection)

    def _end(self, number: int, status: int, headers: dict[str, str] | None = None) -> None:
        self._latency[number] = time.perf_counter() - self._start - self._times[number]
        self._status[number] = status
        if self.on_end is not None:
            self.on_end(number, self._latency[number], status, headers or {})
        self._open_requests -= 1
        self._remaining -= 1
        if self._remaining == 0 and not self._ended.done():
            self._ended.set_result(None)

    def _open_more(self) -> None:
        """Another connection when requests wait for one, up to the bound."""
        total = len(self._connections) + len(self._opening)
        if len(self._waiting) > len(self._opening) and total < self.max_connections:
            task = self._loop.create_task(self._add())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _add(self) -> None:
        try:
            self._free(await self._connect())
        except OSError:
            if self._waiting:
                self._end(self._waiting.popleft(), 0)

    async def _connect(self) -> _Connection:
        kind = _HeaderConnection if self.keep_headers or self.on_end else _Connection
        _, connection = await self._loop.create_connection(lambda: kind(self), self._host, self._port)
        self._connections.add(connection)
        return connection

    def _watch(self) -> None:
        """Close connections that have said nothing for too long, so that every run ends."""
        oldest = time.perf_counter() - self._start - MAX_SILENCE_S
        for connection in tuple(self._connections):
            if connection.number >= 0 and connection.sent < oldest:
                connection.close()
        if self._remaining:
            self._loop.call_later(_WATCH_EVERY_S, self._watch)
