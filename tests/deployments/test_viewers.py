"""Who looks at the live page: figures come from a counter, and time is short."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager

import pytest

from deployments.viewers import Viewers
from headrace.errors import EngineUnavailable, Overloaded

EVERY_S = 0.01


class Counter:
    """Figures that are new each time, or fail, or stay as they are."""

    def __init__(self) -> None:
        self.num_asked = 0
        self.is_there = True
        self.is_new = True

    async def __call__(self) -> bytes:
        self.num_asked += self.is_new
        if not self.is_there:
            raise EngineUnavailable("no figures")
        return b"%d" % self.num_asked


@asynccontextmanager
async def watching(viewers: Viewers) -> AsyncIterator[AsyncGenerator[bytes]]:
    async with aclosing(viewers.events(lambda: False)) as events:
        assert await anext(events) == b"retry: 1000\n\n"
        yield events


def number(event: bytes) -> int:
    assert event.startswith(b"data: ")
    assert event.endswith(b"\n\n")
    return int(event[6:])


async def test_all_viewers_get_the_same_and_it_is_asked_for_once() -> None:
    counter = Counter()
    viewers = Viewers(counter, every_s=EVERY_S)
    async with AsyncExitStack() as stack:
        looking = [await stack.enter_async_context(watching(viewers)) for _ in range(20)]
        for _ in range(5):
            seen = {number(await anext(events)) for events in looking}
            assert len(seen) == 1
        assert counter.num_asked <= 7


async def test_a_slow_viewer_gets_the_latest_next_and_no_backlog() -> None:
    counter = Counter()
    viewers = Viewers(counter, every_s=EVERY_S)
    async with watching(viewers) as slow:
        first = number(await anext(slow))
        await asyncio.sleep(20 * EVERY_S)
        latest = counter.num_asked
        assert number(await anext(slow)) >= latest > first + 5
        assert number(await anext(slow)) > latest


async def test_nothing_is_asked_for_while_nobody_looks() -> None:
    counter = Counter()
    viewers = Viewers(counter, every_s=EVERY_S)
    async with watching(viewers) as events:
        await anext(events)
        assert viewers.num_present == 1
    assert viewers.num_present == 0
    asked = counter.num_asked
    await asyncio.sleep(5 * EVERY_S)
    assert counter.num_asked == asked
    async with watching(viewers) as events:
        assert number(await asyncio.wait_for(anext(events), 1.0)) >= asked


async def test_who_comes_is_told_at_once_what_is_known() -> None:
    viewers = Viewers(Counter(), every_s=5.0)
    async with watching(viewers) as first:
        known = await anext(first)
        async with watching(viewers) as second:
            assert await asyncio.wait_for(anext(second), 0.5) == known


async def test_one_more_than_there_may_be_is_refused_until_one_leaves() -> None:
    viewers = Viewers(Counter(), most=2, every_s=EVERY_S)
    async with watching(viewers):
        async with watching(viewers):
            with pytest.raises(Overloaded, match="2 viewers are looking"):
                await anext(viewers.events(lambda: False))
        async with watching(viewers) as events:
            await anext(events)


async def test_without_figures_there_is_no_news_until_they_are_back() -> None:
    counter = Counter()
    counter.is_there = False
    viewers = Viewers(counter, every_s=EVERY_S, quiet_s=4 * EVERY_S)
    async with watching(viewers) as events:
        assert await anext(events) == b'event: problem\ndata: "no figures"\n\n'  # told once
        assert await anext(events) == b": nothing new\n\n"
        counter.is_there = True
        while not (event := await anext(events)).startswith(b"data: "):
            pass
        assert number(event) > 0


async def test_the_same_figures_are_no_news() -> None:
    counter = Counter()
    viewers = Viewers(counter, every_s=EVERY_S, quiet_s=5 * EVERY_S)
    async with watching(viewers) as events:
        await anext(events)
        counter.is_new = False
        assert b": nothing new\n\n" in [await anext(events) for _ in range(3)]


async def test_the_stream_ends_with_the_server() -> None:
    is_ending = False
    viewers = Viewers(Counter(), every_s=EVERY_S)
    events = viewers.events(lambda: is_ending)
    await anext(events)
    await anext(events)
    is_ending = True
    assert len([event async for event in events]) <= 1
    assert viewers.num_present == 0


async def test_when_the_asking_has_been_ended_who_looks_has_it_begin_anew() -> None:
    counter = Counter()
    is_first = True

    async def figures() -> bytes:
        nonlocal is_first
        if is_first:
            is_first = False
            raise asyncio.CancelledError
        return await counter()

    viewers = Viewers(figures, every_s=EVERY_S, quiet_s=2 * EVERY_S)
    async with asyncio.timeout(5), watching(viewers) as events:
        while (event := await anext(events)).startswith(b":"):
            pass
        assert number(event) == 1
