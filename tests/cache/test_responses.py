from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import pytest

from cache.embedded import EmbeddedServer
from cache.kept import Claim, Kept
from cache.memory import MemoryCache
from cache.redis import RedisCache
from cache.responses import ResponseCache
from cache.scope import Scope, name_of
from headrace.errors import DeadlinePassed, EngineFailed, NotCached
from headrace.requests import Ran, Timings

KEY = name_of("model", "1", "", bytes(32))
PURGE = Scope.of("model", None, None)
WHO: ContextVar[str] = ContextVar("WHO", default="nobody")


class Engine:
    """Counts its runs, and answers when told to."""

    def __init__(self, is_open: bool = True) -> None:
        self.num_runs = 0
        self.num_active = 0
        self.num_cancelled = 0
        self.peak = 0
        self.failures: list[BaseException] = []
        self.gate = asyncio.Event()
        if is_open:
            self.gate.set()

    async def __call__(self) -> Ran:
        self.num_runs += 1
        number = self.num_runs
        self.num_active += 1
        self.peak = max(self.peak, self.num_active)
        try:
            await self.gate.wait()
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise
        finally:
            self.num_active -= 1
        if self.failures:
            raise self.failures.pop(0)
        return Ran({"y": np.array([number, np.nan])}, Timings(ran_s=0.5, batch_rows=3))


class Wall:
    """A shared store on whose writes everything waits."""

    def __init__(self) -> None:
        self.num_puts = 0
        self.num_done = 0
        self.gate = asyncio.Event()

    async def get(self, key: bytes) -> None:
        return None

    async def claim(self, key: bytes, lease_s: float) -> Claim:
        return Claim.NONE

    async def renew(self, key: bytes, lease_s: float) -> None:
        return

    async def release(self, key: bytes) -> None:
        return

    async def drop(self, key: bytes) -> None:
        return

    async def put(self, key: bytes, outputs: Any, ttl_s: float) -> None:
        self.num_puts += 1
        await self.gate.wait()
        self.num_done += 1


@pytest.fixture
def responses() -> ResponseCache:
    return ResponseCache(MemoryCache(10**6), None, 60)


def redis(url: str, prefix: str) -> RedisCache:
    return RedisCache(url, prefix, 0.2, on_fault=lambda kind: None)


def start(responses: ResponseCache, run: Callable[[], Awaitable[Ran]], num: int = 1) -> list[Any]:
    return [asyncio.create_task(responses.get_or_run(KEY, run)) for _ in range(num)]


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_miss_runs_and_the_next_request_is_answered_from_memory(responses: ResponseCache) -> None:
    engine = Engine()
    first = await responses.get_or_run(KEY, engine)
    second = await responses.get_or_run(KEY, engine)
    assert engine.num_runs == 1
    assert first.timings == Timings(ran_s=0.5, batch_rows=3, tier="miss")
    assert (second.timings.tier, second.timings.ran_s) == ("memory", 0.0)
    assert 0 < second.timings.age_s < 1
    assert first.outputs["y"].tobytes() == second.outputs["y"].tobytes()


async def test_a_hit_in_memory_starts_no_task_and_never_waits(responses: ResponseCache) -> None:
    engine = Engine()
    await responses.get_or_run(KEY, engine)
    tasks = asyncio.all_tasks()
    with pytest.raises(StopIteration) as answered:
        responses.get_or_run(KEY, engine).send(None)
    assert answered.value.value.timings.tier == "memory"
    assert asyncio.all_tasks() == tasks


async def test_refresh_computes_anew_and_the_next_request_gets_that(responses: ResponseCache) -> None:
    engine = Engine()
    await responses.get_or_run(KEY, engine)
    assert (await responses.get_or_run(KEY, engine, "refresh")).outputs["y"][0] == 2
    again = await responses.get_or_run(KEY, engine)
    assert (again.timings.tier, again.outputs["y"][0]) == ("memory", 2)


async def test_only_never_runs_anything(redis_url: str) -> None:
    engine = Engine()
    here, there = redis(redis_url, "only:"), redis(redis_url, "only:")
    one, other = (ResponseCache(MemoryCache(10**6), shared, 60) for shared in (here, there))
    with pytest.raises(NotCached):
        await other.get_or_run(KEY, engine, "only")
    assert engine.num_runs == 0
    await one.get_or_run(KEY, engine)
    await one.close()
    assert (await one.get_or_run(KEY, engine, "only")).timings.tier == "memory"
    assert (await other.get_or_run(KEY, engine, "only")).timings.tier == "redis"
    assert engine.num_runs == 1
    await here.close()
    await there.close()


async def test_an_answer_grows_old_across_tiers_and_dies_of_it(redis_url: str) -> None:
    engine = Engine()
    here, there = redis(redis_url, "age:"), redis(redis_url, "age:")
    one, other = (ResponseCache(MemoryCache(10**6), shared, 0.5) for shared in (here, there))
    await one.get_or_run(KEY, engine)
    await one.close()
    await asyncio.sleep(0.2)
    shared = await other.get_or_run(KEY, engine)
    assert shared.timings.tier == "redis"
    assert 0.15 < shared.timings.age_s < 0.45
    remembered = await other.get_or_run(KEY, engine)
    assert (remembered.timings.tier, remembered.timings.age_s > 0.15) == ("memory", True)
    await asyncio.sleep(0.35)
    assert (await other.get_or_run(KEY, engine)).timings.tier == "miss"
    await other.close()
    await here.close()
    await there.close()


async def test_who_waits_is_told_at_the_deadline(responses: ResponseCache) -> None:
    engine = Engine(is_open=False)
    with pytest.raises(DeadlinePassed):
        await responses.get_or_run(KEY, engine, deadline=asyncio.get_running_loop().time() + 0.01)
    await settle()
    assert engine.num_cancelled == 1


async def test_other_processes_share_answers_through_redis(redis_url: str) -> None:
    engine = Engine()
    here, there = redis(redis_url, "share:"), redis(redis_url, "share:")
    one, other = (ResponseCache(MemoryCache(10**6), shared, 60) for shared in (here, there))
    first = await one.get_or_run(KEY, engine)
    await one.close()
    second, third = await asyncio.gather(*(other.get_or_run(KEY, engine) for _ in range(2)))
    assert [ran.timings.tier for ran in (first, second, third)] == ["miss", "redis", "redis"]
    assert (await other.get_or_run(KEY, engine)).timings.tier == "memory"
    assert engine.num_runs == 1
    assert first.outputs["y"].tobytes() == second.outputs["y"].tobytes()
    await here.close()
    await there.close()


async def test_redis_gone_costs_a_miss_not_an_error(own_server: EmbeddedServer) -> None:
    shared = redis(own_server.start(), "gone:")
    responses = ResponseCache(MemoryCache(0), shared, 60)
    engine = Engine()
    await responses.get_or_run(KEY, engine)
    assert own_server.pid is not None
    os.kill(own_server.pid, signal.SIGKILL)
    assert (await responses.get_or_run(KEY, engine)).timings.tier == "miss"
    await responses.close()
    await shared.close()


async def test_a_thousand_identical_misses_run_once(responses: ResponseCache) -> None:
    engine = Engine()
    rans = await asyncio.gather(*start(responses, engine, 1000))
    assert engine.num_runs == 1
    assert Counter(ran.timings.tier for ran in rans) == {"miss": 1, "flight": 999}
    assert len({ran.outputs["y"].tobytes() for ran in rans}) == 1


@asynccontextmanager
async def gateways(url: str, prefix: str, count: int = 3) -> AsyncIterator[list[ResponseCache]]:
    """What so many processes have, each with a connection of its own."""
    stores = [redis(url, prefix) for _ in range(count)]
    caches = [ResponseCache(MemoryCache(10**6), store, 60) for store in stores]
    yield caches
    for cache, store in zip(caches, stores, strict=True):
        await cache.close()
        await store.close()


async def test_a_thousand_identical_misses_in_three_processes_run_once(redis_url: str) -> None:
    engine = Engine(is_open=False)
    async with gateways(redis_url, "stampede:") as caches:
        callers = [caller for cache in caches for caller in start(cache, engine, 334)]
        await asyncio.sleep(0.1)
        engine.gate.set()
        rans = await asyncio.gather(*callers)
    assert engine.num_runs == 1
    assert Counter(ran.timings.tier for ran in rans) == {"miss": 1, "flight": 3 * 334 - 1}
    assert len({ran.outputs["y"].tobytes() for ran in rans}) == 1


async def test_when_one_process_fails_another_tries(redis_url: str) -> None:
    failing, good = Engine(is_open=False), Engine()
    failing.failures = [EngineFailed("here only")]
    async with gateways(redis_url, "fails:", 2) as (one, other):
        (first,) = start(one, failing)
        await asyncio.sleep(0.05)
        (second,) = start(other, good)
        await asyncio.sleep(0.05)
        assert good.num_runs == 0
        failing.gate.set()
        with pytest.raises(EngineFailed):
            await first
        assert (await asyncio.wait_for(second, 1.0)).timings.tier == "miss"


async def test_a_claim_of_a_process_that_died_costs_half_of_the_time_that_is_left(redis_url: str) -> None:
    dead = redis(redis_url, "dead:")
    await dead.claim(KEY, 60)
    engine = Engine()
    async with gateways(redis_url, "dead:", 1) as (cache,):
        started = time.perf_counter()
        deadline = asyncio.get_running_loop().time() + 0.4
        assert (await cache.get_or_run(KEY, engine, deadline=deadline)).timings.tier == "miss"
        assert 0.1 < time.perf_counter() - started < 0.35
    await dead.close()


async def test_without_a_deadline_a_dead_claim_is_waited_for_until_its_lease_is_over(redis_url: str) -> None:
    dead = redis(redis_url, "lease:")
    await dead.claim(KEY, 0.3)
    async with gateways(redis_url, "lease:", 1) as (cache,):
        started = time.perf_counter()
        assert (await cache.get_or_run(KEY, Engine())).timings.tier == "miss"
        assert 0.2 < time.perf_counter() - started < 1.0
    await dead.close()


async def test_what_was_begun_before_a_purge_is_answered_but_neither_remembered_nor_joined(
    redis_url: str,
) -> None:
    old, new = Engine(is_open=False), Engine()
    async with gateways(redis_url, "purged:", 2) as (one, other):
        (before,) = start(one, old)
        await asyncio.sleep(0.05)
        one.forget(PURGE)
        after = await one.get_or_run(KEY, new)
        assert (after.timings.tier, new.num_runs) == ("miss", 1)
        old.gate.set()
        assert (await before).timings.tier == "miss"
        await one.close()
        fresh = await other.get_or_run(KEY, new)
        assert fresh.timings.tier == "redis"
        assert fresh.outputs["y"].tobytes() == after.outputs["y"].tobytes()
        assert (await one.get_or_run(KEY, new)).outputs["y"].tobytes() == after.outputs["y"].tobytes()


async def test_what_was_shared_just_before_a_purge_was_heard_of_is_deleted(redis_url: str) -> None:
    async with gateways(redis_url, "late:", 2) as (one, other):
        await one.get_or_run(KEY, Engine())
        await one.close()
        one.forget(Scope.of("another", None, None))
        await one.close()
        assert (await other.get_or_run(KEY, Engine(), "only")).timings.tier == "redis"
        one.forget(PURGE)
        await one.close()
        other.memory.drop_all(PURGE.matches)
        with pytest.raises(NotCached):
            await other.get_or_run(KEY, Engine(), "only")


async def test_what_is_read_from_the_store_while_a_purge_is_heard_of_is_not_remembered() -> None:
    class Slow(Wall):
        async def claim(self, key: bytes, lease_s: float) -> Any:
            await self.gate.wait()
            return Kept({"y": np.zeros(1)}, 1.0)

    wall = Slow()
    responses = ResponseCache(MemoryCache(10**6), wall, 60)
    (reading,) = start(responses, Engine())
    await settle()
    responses.forget(PURGE)
    wall.gate.set()
    assert (await reading).timings.tier == "redis"
    assert len(responses.memory) == 0


async def test_a_claim_is_renewed_while_its_answer_is_computed(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cache.responses._LEASE_S", 0.2)
    engine = Engine(is_open=False)
    async with gateways(redis_url, "renew:", 2) as caches:
        callers = [caller for cache in caches for caller in start(cache, engine)]
        await asyncio.sleep(0.6)
        assert engine.num_runs == 1
        engine.gate.set()
        assert {ran.timings.tier for ran in await asyncio.gather(*callers)} == {"miss", "flight"}


async def test_different_keys_do_not_wait_for_each_other(responses: ResponseCache) -> None:
    slow, fast = Engine(is_open=False), Engine()
    waiting = start(responses, slow)
    await responses.get_or_run(b"other" * 6, fast)
    assert fast.num_runs == 1
    slow.gate.set()
    await asyncio.gather(*waiting)


async def test_an_error_is_neither_remembered_nor_shared(responses: ResponseCache) -> None:
    engine = Engine()
    engine.failures = [EngineFailed("once")]
    results: list[Any] = await asyncio.gather(*start(responses, engine, 20), return_exceptions=True)
    assert [type(result) for result in results] == [EngineFailed] + [Ran] * 19
    assert engine.num_runs == 2
    assert (results[1].timings.tier, results[2].timings.tier) == ("miss", "flight")


async def test_when_every_run_fails_each_caller_tries_once_one_at_a_time(responses: ResponseCache) -> None:
    engine = Engine()
    engine.failures = [EngineFailed(str(number)) for number in range(50)]
    results = await asyncio.gather(*start(responses, engine, 50), return_exceptions=True)
    assert [str(result) for result in results] == [str(number) for number in range(50)]
    assert (engine.num_runs, engine.peak) == (50, 1)
    assert (await responses.get_or_run(KEY, engine)).timings.tier == "miss"


async def test_each_run_happens_in_the_context_of_its_own_caller(responses: ResponseCache) -> None:
    seen = []

    async def run() -> Ran:
        seen.append(WHO.get())
        await asyncio.sleep(0)
        raise EngineFailed("again")

    async def caller(who: str) -> Ran:
        WHO.set(who)
        return await responses.get_or_run(KEY, run)

    await asyncio.gather(*map(caller, "abc"), return_exceptions=True)
    assert seen == ["a", "b", "c"]


async def test_a_leader_that_leaves_does_not_take_the_flight_with_it(responses: ResponseCache) -> None:
    engine = Engine(is_open=False)
    leader, *followers = start(responses, engine, 5)
    await settle()
    leader.cancel()
    await settle()
    assert leader.cancelled()
    engine.gate.set()
    rans = await asyncio.gather(*followers)
    assert [ran.timings.tier for ran in rans] == ["flight"] * 4
    assert (engine.num_runs, engine.num_cancelled) == (1, 0)


async def test_after_a_leader_left_its_failure_makes_the_next_one_run(responses: ResponseCache) -> None:
    engine = Engine(is_open=False)
    engine.failures = [EngineFailed("for nobody")]
    leader, *followers = start(responses, engine, 3)
    await settle()
    leader.cancel()
    await settle()
    engine.gate.set()
    rans = await asyncio.gather(*followers)
    assert [ran.timings.tier for ran in rans] == ["miss", "flight"]
    assert engine.num_runs == 2


async def test_a_follower_that_leaves_hurts_nobody(responses: ResponseCache) -> None:
    engine = Engine(is_open=False)
    leader, follower, other = start(responses, engine, 3)
    await settle()
    follower.cancel()
    await settle()
    engine.gate.set()
    assert (await leader).timings.tier == "miss"
    assert (await other).timings.tier == "flight"
    assert follower.cancelled()
    assert engine.num_runs == 1


async def test_a_run_that_nobody_waits_for_is_cancelled_and_the_next_request_runs_anew(
    responses: ResponseCache,
) -> None:
    engine = Engine(is_open=False)
    callers = start(responses, engine, 3)
    await settle()
    for caller in callers:
        caller.cancel()
    await settle()
    assert (engine.num_runs, engine.num_cancelled, engine.num_active) == (1, 1, 0)
    engine.gate.set()
    assert (await responses.get_or_run(KEY, engine)).timings.tier == "miss"
    assert engine.num_runs == 2


async def test_a_newcomer_does_not_join_a_run_that_is_being_cancelled(responses: ResponseCache) -> None:
    engine = Engine(is_open=False)
    (caller,) = start(responses, engine)
    await settle()
    caller.cancel()
    await asyncio.sleep(0)  # the caller has left; its run has not yet heard
    (newcomer,) = start(responses, engine)
    engine.gate.set()
    assert (await newcomer).timings.tier == "miss"


async def test_a_follower_keeps_its_own_deadline(responses: ResponseCache) -> None:
    engine = Engine(is_open=False)
    (leader,) = start(responses, engine)
    await settle()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await responses.get_or_run(KEY, engine)
    engine.gate.set()
    assert (await leader).timings.tier == "miss"


async def test_a_run_that_cancels_itself_counts_as_failed(responses: ResponseCache) -> None:
    engine = Engine()
    engine.failures = [asyncio.CancelledError()]
    leader, follower = start(responses, engine, 2)
    assert (await follower).timings.tier == "miss"
    with pytest.raises(asyncio.CancelledError):
        await leader


async def test_callers_that_leave_at_any_moment_leave_nothing_behind(responses: ResponseCache) -> None:
    for pause in range(12):
        engine = Engine()
        engine.failures = [EngineFailed("first")]
        callers = [asyncio.create_task(responses.get_or_run(bytes([pause]), engine)) for _ in range(4)]
        for _ in range(pause):
            await asyncio.sleep(0)
        callers[pause % 4].cancel()
        await asyncio.wait(callers, timeout=1)
        assert all(caller.done() for caller in callers)
        await settle()
        assert (responses._flights, responses._attempts, engine.num_active) == ({}, set(), 0)


@pytest.mark.parametrize("budget", [0, 10**6])
async def test_no_caller_can_change_what_another_gets(budget: int) -> None:
    responses = ResponseCache(MemoryCache(budget), None, 60)
    batch = np.zeros((100, 4))

    async def run() -> Ran:
        await asyncio.sleep(0)
        return Ran({"y": batch[1]})

    leader, follower = await asyncio.gather(*start(responses, run, 2))
    batch[:] = 7.0
    later = await responses.get_or_run(KEY, run) if budget else follower
    leader.outputs.clear()
    for ran in (follower, later):
        assert not ran.outputs["y"].any()
        assert ran.outputs["y"].base is None
        with pytest.raises(ValueError, match="read-only"):
            ran.outputs["y"][0] = 1.0


async def test_a_write_to_the_shared_store_does_not_delay_the_answer_and_close_waits_for_it() -> None:
    wall = Wall()
    responses = ResponseCache(MemoryCache(10**6), wall, 60)
    ran = await responses.get_or_run(KEY, Engine())
    assert ran.timings.tier == "miss"
    assert wall.num_done == 0
    asyncio.get_running_loop().call_later(0.02, wall.gate.set)
    await responses.close()
    assert wall.num_done == 1


async def test_no_more_than_256_writes_are_pending_and_close_gives_up_after_a_second() -> None:
    wall = Wall()
    responses = ResponseCache(MemoryCache(10**6), wall, 60)
    for number in range(300):
        await responses.get_or_run(number.to_bytes(32), Engine())
    await settle()
    assert wall.num_puts == 256
    started = time.perf_counter()
    await responses.close()
    assert 0.9 < time.perf_counter() - started < 1.5
    await settle()
    assert responses._writes == set()
