"""uvicorn's side of one request, which does two things more than uvicorn's own.

The head and the body of an answer leave in one write. A gateway that dies between the two leaves HAProxy with
the head of an answer, which HAProxy has passed on by then and cannot take back; without it, the request goes
to another gateway. It saves a system call, too.

It tells when the caller leaves. ASGI has a message for that, which somebody has to wait for: a task more
for every request that takes its time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http import httptools_impl


class _HeldHead:
    """A transport that keeps its first write, which is the head of an answer, for the second."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head: bytes | None = None
        self._is_out = False

    def write(self, data: bytes) -> None:
        if self._is_out:
            self._transport.write(data)
        elif self._head is None:
            self._head = data
        else:
            self._is_out = True
            self._transport.writelines([self._head, data])

    def flush(self) -> None:
        """To be called when the answer is complete: that to a HEAD request has no second write."""
        if self._head is not None and not self._is_out:
            self._is_out = True
            self._transport.write(self._head)

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()


class Cycle(httptools_impl.RequestResponseCycle):
    """One request and its answer on a connection; `receive` and `send` are what the application gets."""

    _has_left = False
    _on_leave: Callable[[], None] | None = None

    @property
    def disconnected(self) -> bool:
        return self._has_left

    @disconnected.setter
    def disconnected(self, value: bool) -> None:  # uvicorn sets it when the connection is lost
        self._has_left = value
        if value and self._on_leave is not None:
            self._on_leave()

    def when_left(self, callback: Callable[[], None]) -> None:
        """Call this once the caller is gone, unless its answer has left before."""
        self._on_leave = callback
        if self._has_left:
            callback()
        else:
            self.flow.resume_reading()  # a large body may have paused it, and then nobody sees the end

    def forget(self) -> None:
        """Call nobody."""
        self._on_leave = None

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start" and not self.response_started:
            self.transport = _HeldHead(self.transport)  # type: ignore[assignment]  # all that a cycle uses
        await super().send(message)
        if self.response_complete and isinstance(self.transport, _HeldHead):
            self.transport.flush()


def cycle_of(receive: Callable[..., Any]) -> Cycle | None:
    """The cycle that an application's `receive` belongs to; None under another server."""
    cycle = getattr(receive, "__self__", None)
    return cycle if isinstance(cycle, Cycle) else None


def install() -> None:
    """For every request that uvicorn takes in this process from now on."""
    httptools_impl.RequestResponseCycle = Cycle  # type: ignore[misc]  # uvicorn has no setting for it
