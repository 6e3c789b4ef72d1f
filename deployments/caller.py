"""The caller of one HTTP request: its body, and whether it is still there while the answer takes time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from headrace.errors import SlowBody, TooLarge

Receive = Callable[[], Awaitable[dict[str, Any]]]

_LOOK_S = 0.005  # most answers are faster, and need nobody to look after their callers


class ClientLeftError(Exception):
    """The caller closed the connection: nobody wants an answer."""


class Caller:
    """Reads the body and notices who leaves; one timer does for both, and a fast answer costs no more.

    Serve looks after callers, too, with two more tasks for each request; HAProxy tells it not to
    (`deployments/haproxy.sh`).
    """

    def __init__(self, receive: Receive, body_timeout_s: float) -> None:
        self._receive = receive
        self._body_timeout_s = body_timeout_s
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._started_at = self._loop.time()
        self._is_read = False
        self._timer = self._loop.call_later(_LOOK_S, self._look)
        self._watch: asyncio.Task[None] | None = None
        self.failure: Exception | None = None  # why this request's task was cancelled

    def close(self) -> None:
        self._timer.cancel()
        if self._watch is not None:
            self._watch.cancel()

    async def body(self, limit: int) -> bytes:
        """The whole body; TooLarge at the limit, while it is read."""
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
        self._is_read = True
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _look(self) -> None:
        if self._is_read:
            self._watch = self._loop.create_task(self._await_leave())
            return
        late_s = self._loop.time() - self._started_at - self._body_timeout_s
        if late_s >= 0:
            self._end(SlowBody(f"the body did not arrive within {self._body_timeout_s:g} s"))
        else:
            self._timer = self._loop.call_later(min(1.0, -late_s), self._look)

    async def _await_leave(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._end(ClientLeftError())

    def _end(self, failure: Exception) -> None:
        self.failure = failure
        if self._task is not None:
            self._task.cancel()
