"""The load client keeps order, and counts what failed."""

from __future__ import annotations

import asyncio
import itertools

import numpy as np
import pytest

from deployments.load import Load, Reply, closed_for, closed_loop, infer_request
from deployments.ports import free_ports
from headrace.errors import EngineUnavailable
from tests.conftest import Running


def test_replies_come_in_the_order_of_the_requests(running: Running) -> None:
    xs = [np.full((1, 4), number, np.float32) for number in range(30)]
    load = running.ask([infer_request("test", "double", {"x": x}, "1") for x in xs], concurrency=7)
    raws = [reply.body[int(reply.headers["inference-header-content-length"]) :] for reply in load.replies]
    assert [np.frombuffer(raw, np.float32)[0] for raw in raws] == [2 * number for number in range(30)]


def test_failures_are_counted_and_the_rest_goes_on(running: Running) -> None:
    good = infer_request("test", "double", {"x": np.ones((1, 4), np.float32)})
    bad = infer_request("test", "nobody", {"x": np.ones((1, 4), np.float32)})
    load = running.ask([good, bad, good, bad, good], concurrency=2)
    assert [reply.status for reply in load.replies] == [200, 404, 200, 404, 200]
    assert load.num_failed == 2


def test_a_server_that_closes_the_connection_is_a_failure() -> None:
    async def run() -> Load:
        async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(10)
            writer.close()

        server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            return await closed_loop("127.0.0.1", port, [b"GET / HTTP/1.1\r\n\r\n"] * 3, 1)

    assert [reply.status for reply in asyncio.run(run()).replies] == [0, 0, 0]


def test_a_load_of_so_many_seconds_ends_when_they_are_over(running: Running) -> None:
    request = infer_request("test", "double", {"x": np.ones((1, 4), np.float32)})
    seen: list[tuple[float, Reply]] = []
    requests = itertools.repeat(request)

    def note(sent_s: float, reply: Reply) -> None:
        seen.append((sent_s, reply))

    asyncio.run(closed_for("127.0.0.1", running.port, requests, 3, 0.3, note))
    assert len(seen) > 3
    assert all(0 <= sent_s < 0.35 and reply.status == 200 for sent_s, reply in seen)
    assert max(sent_s + reply.seconds for sent_s, reply in seen) > 0.25


def test_nobody_at_the_port_is_said() -> None:
    (port,) = free_ports(1)
    with pytest.raises(EngineUnavailable, match="nothing answers"):
        asyncio.run(closed_loop("127.0.0.1", port, [b""], 1))


def test_the_mean_batch_is_taken_over_batches() -> None:
    def ran(rows: int) -> Reply:
        return Reply(
            200, 0.1, {"headrace-cache": "miss", "server-timing": f"queue;dur=1, batch;desc={rows}"}, b""
        )

    hit = Reply(200, 0.1, {"headrace-cache": "memory"}, b"")
    assert Load([ran(3), ran(3), ran(3), ran(1), hit], 1.0).mean_batch() == 2.0
    assert Load([hit], 1.0).mean_batch() == 0.0
