"""Calls on an engine's threads, their results and failures on the event loop."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref

import pytest

from batching.threads import EngineThreads, Unfinished


async def test_a_call_runs_on_one_of_the_threads_and_gives_what_it_returns() -> None:
    threads = EngineThreads(1)
    first = await threads.call(threading.get_ident)
    assert first != threading.get_ident()
    assert await threads.call(threading.get_ident) == first
    assert await threads.call(lambda a, b: a + b, 1, 2) == 3
    threads.close()


async def test_what_a_call_raises_arrives_and_the_thread_goes_on() -> None:
    threads = EngineThreads(1)
    with pytest.raises(ValueError, match="broken"):
        await threads.call(int, "broken")
    assert await threads.call(int, "7") == 7
    threads.close()


async def test_calls_run_side_by_side_on_so_many_threads() -> None:
    threads = EngineThreads(2)
    both = threading.Barrier(2)
    await asyncio.wait_for(asyncio.gather(*(threads.call(both.wait, 5) for _ in range(2))), 5)
    threads.close()


async def test_each_thread_begins_with_what_it_is_given() -> None:
    begun: list[str] = []
    threads = EngineThreads(3, lambda: begun.append(threading.current_thread().name))
    await asyncio.gather(*(threads.call(lambda: None) for _ in range(3)))
    threads.close()
    assert set(begun) <= {"engine_0", "engine_1", "engine_2"}
    assert len(begun) == len(set(begun)) >= 1


async def test_a_caller_who_leaves_harms_nobody() -> None:
    threads = EngineThreads(1)
    left = threads.call(time.sleep, 0.05)
    after = threads.call(int, "7")
    left.cancel()
    assert await asyncio.wait_for(after, 5) == 7
    threads.close()


async def test_a_thread_that_waits_holds_on_to_nothing() -> None:
    class Tensor:
        pass

    threads = EngineThreads(1)
    tensor = Tensor()
    gone = weakref.ref(tensor)
    assert await threads.call(lambda given: isinstance(given, Tensor), tensor)
    del tensor
    deadline = time.monotonic() + 5
    while gone() is not None and time.monotonic() < deadline:
        gc.collect()
        await asyncio.sleep(0.01)
    assert gone() is None
    threads.close()


async def test_a_call_may_go_on_once_its_result_is_on_its_way() -> None:
    threads = EngineThreads(1)
    before = threading.Event()
    after = asyncio.Event()
    loop = asyncio.get_running_loop()

    def go_on() -> None:
        assert before.wait(5)
        loop.call_soon_threadsafe(after.set)

    assert await threads.call(lambda: Unfinished(7, go_on)) == 7
    assert not after.is_set()
    before.set()
    await asyncio.wait_for(after.wait(), 5)
    threads.close()


async def test_threads_end_after_the_calls_that_were_made() -> None:
    before = set(threading.enumerate())
    threads = EngineThreads(2)
    found = threads.call(int, "7")
    started = set(threading.enumerate()) - before
    threads.close()
    assert await found == 7
    for thread in started:
        thread.join(5)
        assert not thread.is_alive()


def test_a_loop_that_has_ended_is_not_told() -> None:
    threads = EngineThreads(1)
    go_on = threading.Event()

    async def leave() -> None:
        threads.call(go_on.wait, 5)

    asyncio.run(leave())
    go_on.set()

    async def again() -> int:
        return await asyncio.wait_for(threads.call(int, "7"), 5)

    assert asyncio.run(again()) == 7
    threads.close()
