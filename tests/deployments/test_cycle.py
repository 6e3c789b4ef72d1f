"""What a real uvicorn writes to its transport, with real connections."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.deployments.listening import App, listening

HEAD_END = b"\r\n\r\n"


def answer(*messages: dict[str, Any]) -> App:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    return app


def start(*headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": 200, "headers": list(headers)}


def body(data: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


class Recorder:
    """A transport that notes what goes out together."""

    def __init__(self, transport: asyncio.Transport, writes: list[bytes]) -> None:
        self._transport = transport
        self._writes = writes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        self._writes.append(bytes(data))
        self._transport.write(data)

    def writelines(self, parts: list[bytes]) -> None:
        self._writes.append(b"".join(parts))
        self._transport.writelines(parts)


async def ask(app: App, method: str = "GET", times: int = 1) -> tuple[list[bytes], bytes]:
    """The writes that answer `times` requests on one connection, and what the client read."""
    writes: list[bytes] = []
    async with listening(app, lambda transport: Recorder(transport, writes)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(times - 1):
            writer.write(f"{method} / HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            await asyncio.sleep(0.05)
        writer.write(f"{method} / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        read = await asyncio.wait_for(reader.read(), 5)
        writer.close()
    return writes, read


def test_an_answer_is_one_write() -> None:
    app = answer(start((b"content-length", b"5")), body(b"hello"))
    writes, read = asyncio.run(ask(app, times=3))
    assert len(writes) == 3
    assert all(write.endswith(HEAD_END + b"hello") for write in writes)
    assert read == b"".join(writes)


def test_a_body_in_pieces_comes_whole() -> None:
    app = answer(start(), body(b"one", more=True), body(b"two", more=True), body(b""))
    writes, read = asyncio.run(ask(app))
    assert writes[0].endswith(HEAD_END + b"3\r\none\r\n")
    assert read.endswith(HEAD_END + b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_answer_without_a_body_leaves(method: str) -> None:
    app = answer(start((b"content-length", b"0")), body(b""))
    writes, read = asyncio.run(ask(app, method, times=2))
    assert len(writes) == 2
    assert read.count(b"HTTP/1.1 200") == 2


def test_an_application_that_fails_in_between_closes_the_connection() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start((b"content-length", b"5")))
        raise ValueError("in between")

    _, read = asyncio.run(ask(app))
    assert b"hello" not in read


def test_an_application_that_fails_before_is_answered() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("before")

    _, read = asyncio.run(ask(app))
    assert read.startswith(b"HTTP/1.1 500")
