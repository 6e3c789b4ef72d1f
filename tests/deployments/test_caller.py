"""A body within its limit and its time, and who leaves while the answer takes time: over real connections."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from deployments.caller import Caller, ClientLeftError, seconds_since
from headrace.errors import SlowBody, TooLarge
from tests.deployments.listening import listening

WAIT_S = 5.0
HEAD = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
ANSWER = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}


async def outcome_of(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    work: Callable[[bytes], Awaitable[None]],
    limit: int = 99,
    timeout_s: float = WAIT_S,
) -> object:
    """What became of the first request that `talk` makes: its body, or why it ended. `work` is what its
    answer takes."""
    outcome: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        caller = Caller(receive, timeout_s)
        result: object = None
        try:
            result = await caller.body(limit)
            await work(result)
            await send(ANSWER)
            await send({"type": "http.response.body", "body": b"ok"})
        except asyncio.CancelledError:
            result = caller.failure
        except (ClientLeftError, SlowBody, TooLarge) as err:
            result = err
        finally:
            caller.close()
        if not outcome.done():
            outcome.set_result(result)

    async with listening(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await talk(reader, writer)
        result = await asyncio.wait_for(outcome, WAIT_S)
        writer.close()
    return result


def sends(*parts: bytes, and_leaves: bool = False) -> Any:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await asyncio.sleep(0.05)
        if and_leaves:
            writer.close()

    return talk


async def nothing(_: bytes) -> None:
    pass


async def forever(_: bytes) -> None:
    await asyncio.Event().wait()


async def test_a_body_is_joined_from_its_parts() -> None:
    assert await outcome_of(sends(HEAD % 3 + b"abc"), nothing) == b"abc"
    assert await outcome_of(sends(HEAD % 3, b"ab", b"c"), nothing) == b"abc"


async def test_a_body_over_the_limit_is_cut_off_while_it_is_read() -> None:
    result = await outcome_of(sends(HEAD % 1000, b"ab", b"cd"), nothing, limit=3)
    assert isinstance(result, TooLarge)
    assert "limit of 3 bytes" in str(result)


async def test_who_leaves_within_the_body_is_no_failure_of_ours() -> None:
    result = await outcome_of(sends(HEAD % 3 + b"ab", and_leaves=True), nothing)
    assert isinstance(result, ClientLeftError)


async def test_a_body_that_does_not_come_ends_the_request() -> None:
    assert isinstance(await outcome_of(sends(HEAD % 3 + b"ab"), nothing, timeout_s=0.02), SlowBody)


@pytest.mark.parametrize("size", [3, 1 << 20], ids=["small", "large enough to pause reading"])
async def test_who_leaves_while_the_answer_takes_time_cancels_it(size: int) -> None:
    talk = sends(HEAD % size + b"x" * size, and_leaves=True)
    assert isinstance(await outcome_of(talk, forever, limit=size), ClientLeftError)


async def test_who_leaves_just_before_the_answer_is_looked_for_cancels_it_too() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD % 3 + b"abc")
        writer.close()

    assert isinstance(await outcome_of(talk, forever), ClientLeftError)


async def test_who_leaves_after_the_answer_cancels_nothing() -> None:
    """The task of a request that was answered may be at work for Serve still."""
    tasks: list[asyncio.Task[Any] | None] = []

    async def work(_: bytes) -> None:
        tasks.append(asyncio.current_task())

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):  # on one connection
            writer.write(HEAD % 3 + b"abc")
            assert b"200 OK" in await reader.readuntil(b"ok")
        writer.close()
        await asyncio.sleep(0.05)

    assert await outcome_of(talk, work) == b"abc"
    assert [task is not None and task.cancelling() for task in tasks] == [0, 0]


HOST = socket.gethostname()


@pytest.mark.parametrize(
    ("told", "since_s"),
    [
        (f"999998500000 {HOST}", 1.5),
        (f"999998500000 not-{HOST}", 0.0),  # whose clock may be another
        (f"1000001500000 {HOST}", 0.0),
        (f"900000000000 {HOST}", 0.0),  # a clock that was set meanwhile
        (f"soon {HOST}", 0.0),
        ("999998500000", 0.0),
        ("", 0.0),
    ],
)
def test_when_a_request_reached_haproxy_is_taken_from_its_own_host_alone(told: str, since_s: float) -> None:
    assert seconds_since(told, 1_000_000.0) == pytest.approx(since_s)
