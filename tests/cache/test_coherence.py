"""What is purged elsewhere is forgotten here, and everything when nobody can tell what was purged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from redis.asyncio import Redis

from cache.coherence import Coherence
from cache.embedded import EmbeddedServer
from cache.redis import RedisCache
from cache.scope import Scope
from tests.cache.test_redis import kill

A, B = Scope.of("a", None, None), Scope.of("b", "1", "tenant")
ALL = Scope()


def store(url: str) -> RedisCache:
    return RedisCache(url, "test:", 0.2, on_fault=lambda kind: None)


@pytest.fixture
def forgotten(monkeypatch: pytest.MonkeyPatch) -> list[Scope]:
    monkeypatch.setattr("cache.coherence._CUT_OFF_S", 0.1)
    return []


async def test_each_purge_is_heard_once_and_in_order(
    own_server: EmbeddedServer, forgotten: list[Scope]
) -> None:
    purger, listener = store(own_server.start()), store(own_server.start())
    await purger.purge(A)
    coherence = Coherence(listener, forgotten.append)
    await coherence.look()
    assert forgotten == []  # from before there was anything to forget
    await purger.purge(B)
    await purger.purge(A)
    await coherence.look()
    await coherence.look()
    assert forgotten == [B, B, A, A]  # once before, once after the deletion
    await purger.close()
    await listener.close()


async def another_log(url: str) -> None:
    async with Redis.from_url(url) as client:
        await client.flushall()
        await client.rpush("test:purges", "log another", A.dumps(), A.dumps(), A.dumps())


async def lost_log(url: str) -> None:
    async with Redis.from_url(url) as client:
        await client.flushall()


async def begun_anew(url: str) -> None:
    purger = store(url)
    async with Redis.from_url(url) as client:
        await client.rpush("test:purges", *[B.dumps()] * 1000)
    await purger.purge(A)
    async with Redis.from_url(url) as client:
        assert await client.llen("test:purges") < 5
    await purger.close()


async def test_the_first_purge_of_all_is_heard_as_any_other(
    own_server: EmbeddedServer, forgotten: list[Scope]
) -> None:
    purger, listener = store(own_server.start()), store(own_server.start())
    coherence = Coherence(listener, forgotten.append)
    await coherence.look()
    await purger.purge(A)
    await coherence.look()
    assert forgotten == [A, A]
    await purger.close()
    await listener.close()


@pytest.mark.parametrize("change", [another_log, lost_log, begun_anew])
async def test_where_the_log_is_another_everything_is_forgotten(
    own_server: EmbeddedServer, forgotten: list[Scope], change: Callable[[str], Awaitable[None]]
) -> None:
    purger, listener = store(own_server.start()), store(own_server.start())
    await purger.purge(A)
    coherence = Coherence(listener, forgotten.append)
    await coherence.look()
    await change(own_server.start())
    await coherence.look()
    await coherence.look()
    assert forgotten == [ALL]
    await purger.close()
    await listener.close()


async def test_out_of_reach_everything_is_forgotten_once_and_later_what_was_missed(
    own_server: EmbeddedServer, forgotten: list[Scope]
) -> None:
    listener = store(own_server.start())
    coherence = Coherence(listener, forgotten.append)
    watching = asyncio.create_task(coherence.watch())
    await asyncio.sleep(0.1)
    kill(own_server)
    await asyncio.sleep(1.5)
    assert forgotten == [ALL]
    purger = store(own_server.start())
    await purger.purge(A)
    await asyncio.sleep(1.5)
    assert forgotten == [ALL, A, A]
    watching.cancel()
    await purger.close()
    await listener.close()
