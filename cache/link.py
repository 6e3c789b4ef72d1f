"""Commands to one Redis over one connection: written together, answered in their order."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Any

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

_SLICES = 5  # of a timeout: an answer is written for, read and handed on in three rounds of the event loop
_NOTHING = object()
_KINDS: dict[str, type[ResponseError]] = {"READONLY": ReadOnlyError, "CLUSTERDOWN": ClusterDownError}
_PLACES: dict[str, type[AskError]] = {"MOVED": MovedError, "ASK": AskError}  # they parse their text


class Link:
    """What many requests ask at about the same time leaves in one write.

    A pool's client takes 0.15 to 0.2 ms of Python for a command, much of it for taking and giving back a
    connection, the rest for a coroutine in each layer. Here the library connects and greets; from then on
    bytes go straight to its parser and answers to who asked. It connects when it is asked something, again
    after a failure; whoever waits then hears of it. For one event loop until closed.

    A question is given up after `timeout_s` (None: never), by TimeoutError. That is a timeout of the other
    side, not of ours: while this process is busy the answer may lie in the socket unread. So time passes in
    slices, for all questions at once, each once the last was noticed.
    """

    def __init__(self, connection: Callable[[], AbstractConnection], timeout_s: float | None = None) -> None:
        self._make = connection
        self._timeout_s = timeout_s
        self._line: _Line | None = None

    def __len__(self) -> int:
        """Commands that are not answered yet, given up or not."""
        return len(self._line.waiting) if self._line is not None else 0

    def ask(self, *command: bytes | str | int, is_patient: bool = False) -> asyncio.Future[Any]:
        """The answer to one command, to be awaited; ResponseError when the server refuses it, TimeoutError
        unless it is patient, another error when the connection fails."""
        if self._line is None or self._line.running.done():
            self._line = _Line(self._make(), self._timeout_s)
        return self._line.ask(command, is_patient)

    def is_silent_since(self, moment: float) -> bool:
        """Whether nothing was heard since then, in the loop's time."""
        return self._line is None or self._line.heard_at < moment

    def drop(self) -> None:
        """Let go of the connection: who waits hears that it failed, who asks next gets another."""
        line, self._line = self._line, None
        if line is not None:
            line.running.cancel()

    async def close(self) -> None:
        line = self._line
        self.drop()
        if line is not None:
            await asyncio.wait([line.running])


class _Line(asyncio.Protocol):
    """One connection, from before it is made until it fails."""

    def __init__(self, connection: AbstractConnection, timeout_s: float | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._slice_s = None if timeout_s is None else timeout_s / _SLICES
        self._outbox: list[bytes] = []
        self._transport: asyncio.WriteTransport | None = None
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._slice = 0  # that passes now
        self._timer: asyncio.TimerHandle | None = None
        # With each the slice at whose end it is given up.
        self.waiting: deque[tuple[asyncio.Future[Any], float]] = deque()
        self.heard_at = -math.inf
        # A context of its own: it is nobody's request.
        self.running = self._loop.create_task(self._run(), context=Context())

    def ask(self, command: tuple[bytes | str | int, ...], is_patient: bool) -> asyncio.Future[Any]:
        if not self._outbox and self._transport is not None:
            self._loop.call_soon(self._send)
        packed = hiredis.pack_command(command)  # type: ignore[arg-type]  # its annotation says: of one part
        self._outbox.append(packed)
        future: asyncio.Future[Any] = self._loop.create_future()
        if self._slice_s is None or is_patient:
            self.waiting.append((future, math.inf))
        else:
            self.waiting.append((future, self._slice + _SLICES))
            if self._timer is None:
                self._timer = self._loop.call_later(self._slice_s, self._pass, context=Context())
        return future

    async def _run(self) -> None:
        failure: Exception = RedisConnectionError("the connection was given up")
        try:
            await self._connection.connect()  # type: ignore[no-untyped-call]
            assert self._connection._writer is not None
            self._transport = self._connection._writer.transport
            self._transport.set_protocol(self)
            self._send()
            await self._lost
        except Exception as err:
            failure = err
        finally:
            if self._timer is not None:
                self._timer.cancel()
            for future, _ in self.waiting:
                if not future.done():
                    future.set_exception(failure)
            with contextlib.suppress(RedisError, OSError):
                await self._connection.disconnect(nowait=True)

    def data_received(self, data: bytes) -> None:
        self.heard_at = self._loop.time()
        try:
            self._reader.feed(data)
            while (answer := self._reader.gets()) is not _NOTHING:
                self._answer(answer)
        except (hiredis.HiredisError, RedisError) as err:
            self.connection_lost(err)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._lost.done():
            self._lost.set_exception(exc or RedisConnectionError("the server closed the connection"))

    def _answer(self, answer: Any) -> None:
        if not self.waiting:
            raise RedisConnectionError("an answer to nothing")
        future, _ = self.waiting.popleft()
        if future.done():  # nobody waits any more
            return
        if isinstance(answer, hiredis.ReplyError):
            future.set_exception(_error(str(answer)))
        else:
            future.set_result(answer)

    def _send(self) -> None:
        if self._transport is not None and self._outbox:
            packed, self._outbox = b"".join(self._outbox), []
            self._transport.write(packed)

    def _pass(self) -> None:
        """A slice of time has passed for all who wait."""
        self._slice += 1
        is_due_later = False
        for future, last in self.waiting:
            if last > self._slice:
                is_due_later = is_due_later or math.isfinite(last)
                if is_due_later:
                    break
            elif not future.done():
                future.set_exception(TimeoutError("the server did not answer in time"))
        assert self._slice_s is not None
        self._timer = self._loop.call_later(self._slice_s, self._pass) if is_due_later else None


def _error(told: str) -> ResponseError:
    kind, _, rest = told.partition(" ")
    if (place := _PLACES.get(kind)) is not None:
        return place(rest)
    return _KINDS.get(kind, ResponseError)(told)
