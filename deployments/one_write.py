"""The head and the body of an answer leave in one write, not two.

A gateway that dies between the two leaves HAProxy with the head of an answer, which HAProxy has passed on by
then and cannot take back; without it, the request goes to another gateway. It saves a system call, too.
"""

from __future__ import annotations

import asyncio
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


class _Cycle(httptools_impl.RequestResponseCycle):
    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start" and not self.response_started:
            self.transport = _HeldHead(self.transport)  # type: ignore[assignment]  # all that a cycle uses
        await super().send(message)
        if self.response_complete and isinstance(self.transport, _HeldHead):
            self.transport.flush()


def install() -> None:
    """For every request that uvicorn takes in this process from now on."""
    httptools_impl.RequestResponseCycle = _Cycle  # type: ignore[misc]  # uvicorn has no setting for it
