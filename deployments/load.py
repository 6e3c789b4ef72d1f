"""A closed-loop HTTP client that costs little beside the server it asks: for replays and benchmarks.

General HTTP clients spend more time on a request than a small model does, on the same cores. This one
sends bytes prepared beforehand over connections kept open, and keeps what came back.
"""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import httptools
import numpy as np
import orjson

from headrace.errors import EngineUnavailable
from headrace.tensors import TensorMap, dtype_name
from protocol.tensors_binary import to_raw

MAX_SILENCE_S = 60.0  # a connection that gives no byte for so long has failed


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer; `status` 0 means that the connection failed."""

    status: int
    seconds: float
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Load:
    """What came back from one run, in the order of the requests."""

    replies: list[Reply]
    seconds: float

    @property
    def num_failed(self) -> int:
        return sum(reply.status != 200 for reply in self.replies)

    @property
    def per_second(self) -> float:
        return len(self.replies) / self.seconds

    def percentile_ms(self, percent: float) -> float:
        return float(np.percentile([reply.seconds for reply in self.replies], percent)) * 1000

    def tiers(self) -> list[str]:
        return [reply.headers.get("headrace-cache", "") for reply in self.replies]

    def mean_batch(self) -> float:
        """Rows in a batch, over all batches of single-row requests; 0 when nothing ran."""
        sizes = [size for reply in self.replies if (size := _batch_of(reply)) > 0]
        return len(sizes) / sum(1 / size for size in sizes) if sizes else 0.0


def _batch_of(reply: Reply) -> int:
    if reply.headers.get("headrace-cache") in ("memory", "redis", "flight"):
        return 0
    for entry in reply.headers.get("server-timing", "").split(", "):
        if entry.startswith("batch;desc="):
            return int(entry.removeprefix("batch;desc="))
    return 0


def infer_request(host: str, model: str, inputs: TensorMap, version: str | None = None) -> bytes:
    """The bytes of one POST with binary tensors, asking for binary tensors back."""
    raws = {name: to_raw(array) for name, array in inputs.items()}
    head = orjson.dumps(
        {
            "inputs": [
                {
                    "name": name,
                    "shape": list(array.shape),
                    "datatype": dtype_name(array),
                    "parameters": {"binary_data_size": len(memoryview(raws[name]).cast("B"))},
                }
                for name, array in inputs.items()
            ],
            "parameters": {"binary_data_output": True},
        }
    )
    path = f"/v2/models/{model}" + (f"/versions/{version}" if version else "") + "/infer"
    body = b"".join([head, *raws.values()])
    lines = f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {len(body)}\r\n"
    return f"{lines}inference-header-content-length: {len(head)}\r\n\r\n".encode() + body


class _Connection(asyncio.Protocol):
    """One request at a time on a kept-alive connection."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._reply: asyncio.Future[None] | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self.headers: dict[str, str] = {}
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its type

    def connection_lost(self, exc: Exception | None) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(exc or ConnectionError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        assert self._parser is not None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as err:
            if self._reply is not None and not self._reply.done():
                self._reply.set_exception(err)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_result(None)

    async def ask(self, request: bytes) -> Reply:
        assert self._transport is not None
        started = time.perf_counter()
        self.headers, self._body = {}, []
        self._parser = httptools.HttpResponseParser(self)
        self._reply = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        async with asyncio.timeout(MAX_SILENCE_S):
            await self._reply
        seconds = time.perf_counter() - started
        return Reply(self._parser.get_status_code(), seconds, self.headers, b"".join(self._body))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def closed_loop(
    host: str,
    port: int,
    requests: Sequence[bytes],
    concurrency: int,
    on_reply: Callable[[], None] = lambda: None,
) -> Load:
    """Send every request once, in order, `concurrency` at a time."""
    numbered = enumerate(requests)
    replies: list[Reply | None] = [None] * len(requests)

    def keep(number: int, _sent: float, reply: Reply) -> None:
        replies[number] = reply
        on_reply()

    started = time.perf_counter()
    await asyncio.gather(
        *(_worker(host, port, numbered, keep) for _ in range(min(concurrency, len(requests))))
    )
    seconds = time.perf_counter() - started
    return Load([reply for reply in replies if reply is not None], seconds)


async def closed_for(
    host: str,
    port: int,
    requests: Iterable[bytes],
    concurrency: int,
    seconds: float,
    on_reply: Callable[[float, Reply], None],
) -> None:
    """Send requests for so long, `concurrency` at a time, and keep nothing: `on_reply` gets each answer with
    the time at which its request was sent, in seconds after the start. Those under way at the end are
    waited for."""
    started = time.perf_counter()

    def due() -> Iterator[tuple[int, bytes]]:
        for numbered in enumerate(requests):
            if time.perf_counter() - started >= seconds:
                return
            yield numbered

    def keep(_number: int, sent: float, reply: Reply) -> None:
        on_reply(sent - started, reply)

    numbered = due()
    await asyncio.gather(*(_worker(host, port, numbered, keep) for _ in range(concurrency)))


async def _worker(
    host: str,
    port: int,
    numbered: Iterator[tuple[int, bytes]],
    keep: Callable[[int, float, Reply], None],
) -> None:
    connection = await _connect(host, port)
    for number, request in numbered:
        began = time.perf_counter()
        try:
            reply = await connection.ask(request)
        except (OSError, TimeoutError, httptools.HttpParserError) as err:
            reply = Reply(0, time.perf_counter() - began, {}, str(err).encode())
        keep(number, began, reply)
        if reply.status == 0 or reply.headers.get("connection") == "close":
            connection.close()
            connection = await _connect(host, port)
    connection.close()


async def _connect(host: str, port: int) -> _Connection:
    try:
        _, connection = await asyncio.get_running_loop().create_connection(_Connection, host, port)
    except OSError as err:
        if err.errno in (errno.EMFILE, errno.ENFILE):
            raise EngineUnavailable(
                "this client may open no more files: fewer connections, or ulimit -n"
            ) from err
        raise EngineUnavailable(f"nothing answers at {host}:{port}") from err
    return connection
