"""One connection for all: answers come to who asked, whatever happens to the others and to the connection."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest
from redis.asyncio.connection import Connection, UnixDomainSocketConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from cache.embedded import EmbeddedServer
from cache.link import Link
from tests.cache.test_redis import kill


def link_to(url: str) -> Link:
    return Link(lambda: UnixDomainSocketConnection(path=url.removeprefix("unix://"), protocol=2))


@pytest.fixture
def link(redis_url: str) -> Link:
    return link_to(redis_url)


async def test_a_thousand_at_once_get_their_own_answers_over_one_connection(
    own_server: EmbeddedServer,
) -> None:
    link = link_to(own_server.start())
    asked = [link.ask("ECHO", b"%d" % number) for number in range(1000)]
    assert len(link) == 1000
    assert await asyncio.gather(*asked) == [b"%d" % number for number in range(1000)]
    assert len(link) == 0
    stats = await link.ask("INFO", "stats")
    assert b"total_connections_received:2\r\n" in stats  # with the one that found it up
    await link.close()


async def test_an_error_is_its_askers_alone(link: Link) -> None:
    one, two, three = link.ask("ECHO", b"1"), link.ask("NOSUCH"), link.ask("ECHO", b"3")
    assert await one == b"1"
    with pytest.raises(ResponseError, match="unknown command"):
        await two
    assert await three == b"3"
    await link.close()


async def test_an_answer_that_nobody_waits_for_goes_to_nobody(link: Link) -> None:
    for pause in range(30):
        given_up, other = link.ask("ECHO", b"given up"), link.ask("ECHO", b"%d" % pause)
        for _ in range(pause % 6):
            await asyncio.sleep(0)
        given_up.cancel()
        assert await other == b"%d" % pause
    await link.close()


async def test_when_the_server_goes_all_who_wait_hear_of_it_and_the_next_connects_anew(
    own_server: EmbeddedServer,
) -> None:
    link = link_to(own_server.start())
    assert await link.ask("ECHO", b"x") == b"x"
    assert own_server.pid is not None
    os.kill(own_server.pid, signal.SIGSTOP)
    waiting = [link.ask("ECHO", b"y") for _ in range(5)]
    await asyncio.sleep(0.05)
    kill(own_server)
    results: list[Any] = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(result, RedisConnectionError | OSError) for result in results)
    own_server.start()
    assert await link.ask("ECHO", b"z") == b"z"
    await link.close()


async def test_where_nobody_listens_the_asker_hears_of_it() -> None:
    link = Link(lambda: Connection(host="127.0.0.1", port=1, protocol=2))
    for _ in range(2):
        with pytest.raises((RedisConnectionError, OSError)):
            await link.ask("ECHO", b"x")
    await link.close()


async def test_a_silent_connection_can_be_let_go_of(own_server: EmbeddedServer) -> None:
    link = link_to(own_server.start())
    before = asyncio.get_running_loop().time()
    await link.ask("ECHO", b"x")
    assert not link.is_silent_since(before)
    assert own_server.pid is not None
    os.kill(own_server.pid, signal.SIGSTOP)
    began = asyncio.get_running_loop().time()
    waiting = link.ask("ECHO", b"y")
    await asyncio.sleep(0.05)
    assert link.is_silent_since(began)
    link.drop()
    with pytest.raises(RedisConnectionError, match="given up"):
        await waiting
    os.kill(own_server.pid, signal.SIGCONT)
    assert await link.ask("ECHO", b"z") == b"z"
    await link.close()


async def test_closing_ends_what_waits_and_leaves_no_task(own_server: EmbeddedServer) -> None:
    link = link_to(own_server.start())
    tasks = asyncio.all_tasks()
    assert own_server.pid is not None
    os.kill(own_server.pid, signal.SIGSTOP)
    waiting = link.ask("ECHO", b"x")
    await asyncio.sleep(0.05)
    await link.close()
    with pytest.raises(RedisConnectionError):
        await waiting
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == tasks
    os.kill(own_server.pid, signal.SIGCONT)


async def test_a_neighbour_that_answers_too_much_is_let_go_of() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"+OK\r\n+OK\r\n+OK\r\n")
        await writer.drain()
        await reader.read()
        writer.close()

    neighbour = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = neighbour.sockets[0].getsockname()[1]
    link = Link(lambda: Connection(host="127.0.0.1", port=port, protocol=2, driver_info=None))
    assert await link.ask("ECHO", b"x") == b"OK"
    await asyncio.sleep(0.05)
    assert await link.ask("ECHO", b"y") == b"OK"  # over another connection
    await link.close()
    neighbour.close()
