"""The caller of one HTTP request: its body, and whether it is still there while the answer takes time."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

from deployments.cycle import cycle_of
from headrace.errors import SlowBody, TooLarge
from headrace.requests import Asked

CAME_HEADER = "headrace-came"  # when HAProxy got a request: microseconds of Unix time, and on which host
_HOST = socket.gethostname()
_MOST_S = 60.0  # between HAProxy and here: what is longer is a clock that was set meanwhile

Receive = Callable[[], Awaitable[dict[str, Any]]]


class ClientLeftError(Exception):
    """The caller closed the connection: nobody wants an answer."""


def seconds_since(came: str, now: float) -> float:
    """What CAME_HEADER tells, as seconds before `now` (Unix time). 0 if it was on another host, whose clock
    may be another one, or cannot be."""
    told, _, host = came.partition(" ")
    if host != _HOST or not told.isdecimal():
        return 0.0
    since_s = now - int(told) / 1e6
    return since_s if 0 <= since_s <= _MOST_S else 0.0


class Caller:
    """Reads the body within its limit and its time, and cancels the request of a caller who leaves.

    Serve looks after callers, too, with two more tasks for each request; HAProxy tells it not to
    (`deployments/haproxy_front.cfg`).
    """

    def __init__(self, receive: Receive, body_timeout_s: float) -> None:
        self._receive = receive
        self._body_timeout_s = body_timeout_s
        self._cycle = cycle_of(receive)
        self._was_kept = self._cycle is not None and self._cycle.keep_alive
        self._task = asyncio.current_task()
        self.failure: Exception | None = None  # why this request's task was cancelled
        self.began = time.monotonic()
        self.asked: Asked | None = None
        self.when_sent: Callable[[], None] | None = None  # to be called after the answer has left

    def close(self) -> None:
        if self._cycle is not None:
            self._cycle.forget()

    @property
    def has_body(self) -> bool:
        """Whether all of the body is there already, as most are."""
        return self._cycle is not None and not self._cycle.more_body

    def is_stopping(self) -> bool:
        """Whether the server has begun to stop since this request came."""
        return self._was_kept and self._cycle is not None and not self._cycle.keep_alive

    async def body(self, limit: int) -> bytes:
        """The whole body; TooLarge at the limit, while it is read, SlowBody when it does not arrive in time,
        ClientLeftError when it never will."""
        if self.has_body:
            body = await self._read(limit)
        else:
            timer = asyncio.get_running_loop().call_later(self._body_timeout_s, self._end_slow)
            try:
                body = await self._read(limit)
            except asyncio.CancelledError:
                if not isinstance(self.failure, SlowBody) or self._task is None:
                    raise
                self._task.uncancel()
                failure, self.failure = self.failure, None
                raise failure from None
            finally:
                timer.cancel()
        if self._cycle is not None:
            self._cycle.when_left(self._left)
        return body

    async def _read(self, limit: int) -> bytes:
        chunks: list[bytes] = []
        total = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientLeftError
            chunk = message.get("body", b"")
            total += len(chunk)
            if total > limit:
                raise TooLarge(f"the body is over the limit of {limit} bytes")
            chunks.append(chunk)
            if not message.get("more_body", False):
                break
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _end_slow(self) -> None:
        self._end(SlowBody(f"the body did not arrive within {self._body_timeout_s:g} s"))

    def _left(self) -> None:
        self._end(ClientLeftError())

    def _end(self, failure: Exception) -> None:
        self.failure = failure
        if self._task is not None:
            self._task.cancel()
