"""A body within its limit and its time, and who leaves while the answer takes time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from deployments.caller import Caller, ClientLeftError
from headrace.errors import SlowBody, TooLarge


def receives(*messages: dict[str, Any]) -> Any:
    """An ASGI receive: these messages, then silence."""
    left = list(messages)

    async def receive() -> dict[str, Any]:
        if not left:
            await asyncio.Event().wait()
        return left.pop(0)

    return receive


def part(body: bytes, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


LEFT = {"type": "http.disconnect"}


async def test_a_body_in_parts_is_joined_and_one_part_is_not_copied() -> None:
    caller = Caller(receives(part(b"ab"), part(b"c", more=False)), 1.0)
    assert await caller.body(3) == b"abc"
    caller.close()
    whole = b"abc"
    caller = Caller(receives(part(whole, more=False)), 1.0)
    assert await caller.body(3) is whole
    caller.close()


async def test_a_body_over_the_limit_is_cut_off_while_it_is_read() -> None:
    caller = Caller(receives(part(b"ab"), part(b"cd")), 1.0)
    with pytest.raises(TooLarge, match="limit of 3 bytes"):
        await caller.body(3)
    caller.close()


async def test_who_leaves_within_the_body_is_no_failure_of_ours() -> None:
    caller = Caller(receives(part(b"ab"), LEFT), 1.0)
    with pytest.raises(ClientLeftError):
        await caller.body(3)
    caller.close()


async def test_a_body_that_does_not_come_ends_the_request() -> None:
    async def request() -> None:
        caller = Caller(receives(part(b"ab")), 0.02)
        try:
            await caller.body(99)
        except asyncio.CancelledError:
            assert isinstance(caller.failure, SlowBody)
            raise

    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(asyncio.create_task(request()), 5)


async def test_who_leaves_while_the_answer_takes_time_cancels_it() -> None:
    failures: list[Exception | None] = []

    async def request() -> None:
        caller = Caller(receives(part(b"ab", more=False), LEFT), 1.0)
        await caller.body(99)
        try:
            await asyncio.Event().wait()
        finally:
            failures.append(caller.failure)

    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(asyncio.create_task(request()), 5)
    assert isinstance(failures[0], ClientLeftError)


async def test_a_fast_answer_leaves_nothing_running() -> None:
    before = len(asyncio.all_tasks())
    caller = Caller(receives(part(b"ab", more=False), LEFT), 1.0)
    await caller.body(99)
    caller.close()
    await asyncio.sleep(0.02)
    assert len(asyncio.all_tasks()) == before
