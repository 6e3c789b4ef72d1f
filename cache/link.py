"""Commands to one Redis over one connection: written together, answered in their order."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError


class Link:
    """What many requests ask at about the same time leaves in one write.

    A pool's client takes 0.15 to 0.2 ms of Python for a command, much of it for taking and giving back a
    connection. Here the library connects, greets, packs and parses, and that is all. It connects when it is
    asked something, again after a failure; whoever waits then hears of it. For one event loop until closed.
    """

    def __init__(self, connection: Callable[[], AbstractConnection]) -> None:
        self._make = connection
        self._line: _Line | None = None

    def __len__(self) -> int:
        """Commands that are not answered yet, given up or not."""
        return len(self._line.waiting) if self._line is not None else 0

    def ask(self, *command: bytes | str | int) -> asyncio.Future[Any]:
        """The answer to one command, to be awaited; ResponseError when the server refuses it, another
        error when the connection fails."""
        if self._line is None or self._line.running.done():
            self._line = _Line(self._make())
        return self._line.ask(command)

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


class _Line:
    """One connection, from before it is made until it fails."""

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection
        self._outbox: list[bytes] = []
        self._wake = asyncio.Event()
        self.waiting: deque[asyncio.Future[Any]] = deque()
        self.heard_at = -math.inf
        # A context of its own: it is nobody's request.
        self.running = asyncio.get_running_loop().create_task(self._run(), context=Context())

    def ask(self, command: tuple[bytes | str | int, ...]) -> asyncio.Future[Any]:
        self._outbox += self._connection.pack_command(*command)
        self._wake.set()
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.waiting.append(future)
        return future

    async def _run(self) -> None:
        sending: asyncio.Task[None] | None = None
        failure: Exception = RedisConnectionError("the connection was given up")
        try:
            await self._connection.connect()  # type: ignore[no-untyped-call]
            sending = asyncio.create_task(self._send())
            while True:
                await self._receive()
        except Exception as err:
            failure = err
        finally:
            if sending is not None:
                sending.cancel()
            for future in self.waiting:
                if not future.done():
                    future.set_exception(failure)
            with contextlib.suppress(RedisError, OSError):
                await self._connection.disconnect(nowait=True)

    async def _send(self) -> None:
        with contextlib.suppress(RedisError, OSError):  # then reading fails, too
            while True:
                await self._wake.wait()
                self._wake.clear()
                packed, self._outbox = self._outbox, []
                await self._connection.send_packed_command(packed, check_health=False)

    async def _receive(self) -> None:
        answer: Any = None
        try:
            answer = await self._connection.read_response(timeout=math.inf)
        except ResponseError as err:
            answer = err
        self.heard_at = asyncio.get_running_loop().time()
        if not self.waiting:
            raise RedisConnectionError("an answer to nothing")
        future = self.waiting.popleft()
        if future.done():  # nobody waits any more
            return
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)
