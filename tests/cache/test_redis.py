from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable
from typing import Any

import numpy as np
import pytest
from redis.asyncio import Redis

from cache.breaker import Breaker
from cache.embedded import EmbeddedServer
from cache.kept import Claim
from cache.redis import RedisCache
from cache.scope import Scope, name_of
from headrace.errors import ConfigRejected, EngineUnavailable

KEY = bytes(range(32))
OUTPUTS = {"y": np.array([[1.5, np.nan]], dtype=np.float32), "s": np.array([b"a", b""], dtype=object)}
TIMEOUT_S = 0.1


class Faults(list[str]):
    def __call__(self, kind: str) -> None:
        self.append(kind)


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def make(faults: Faults) -> Any:
    def make(url: str, prefix: str = "test:", timeout_s: float = TIMEOUT_S, **options: Any) -> RedisCache:
        return RedisCache(url, prefix, timeout_s, on_fault=faults, **options)

    return make


async def timed(call: Awaitable[Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = await call
    return result, time.perf_counter() - start


def kill(server: EmbeddedServer) -> None:
    """End the server at once and return when it is gone."""
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    while server.pid is not None:
        time.sleep(0.001)


def name(prefix: str = "test:") -> bytes:
    return prefix.encode() + KEY


async def test_what_is_put_is_got_bit_for_bit(redis_url: str, make: Any, faults: Faults) -> None:
    cache = make(redis_url, prefix="roundtrip:")
    assert await cache.get(KEY) is None
    await cache.put(KEY, OUTPUTS, 60)
    got = await cache.get(KEY)
    assert got.outputs["y"].tobytes() == OUTPUTS["y"].tobytes()
    assert got.outputs["s"].tolist() == [b"a", b""]
    assert faults == []
    await cache.close()


async def test_a_large_value_passes(redis_url: str, make: Any) -> None:
    cache = make(redis_url, prefix="large:")
    await cache.put(KEY, {"y": np.arange(100_000)}, 60)
    assert (await cache.get(KEY)).outputs["y"][-1] == 99_999
    await cache.close()


async def test_values_expire_after_their_time_less_up_to_a_tenth(redis_url: str, make: Any) -> None:
    cache = make(redis_url, prefix="ttl:")
    lives = []
    async with Redis.from_url(redis_url) as client:
        for number in range(40):
            await cache.put(bytes([number]), OUTPUTS, 100)
            lives.append(await client.pttl(b"ttl:" + bytes([number])))
    assert all(89_000 < life <= 100_000 for life in lives)
    assert max(lives) - min(lives) > 2_000
    await cache.close()


async def test_a_damaged_value_is_a_miss_and_deleted(redis_url: str, make: Any, faults: Faults) -> None:
    cache = make(redis_url, prefix="damaged:")
    await cache.put(KEY, OUTPUTS, 60)
    async with Redis.from_url(redis_url) as client:
        await client.setrange(name("damaged:"), 60, b"\xff\xff")
        assert await cache.get(KEY) is None
        assert await client.exists(name("damaged:")) == 0
    assert faults == ["Damaged"]
    await cache.close()


async def test_a_wrong_type_under_our_key_is_a_miss_until_the_next_put(
    redis_url: str, make: Any, faults: Faults
) -> None:
    cache = make(redis_url, prefix="type:")
    async with Redis.from_url(redis_url) as client:
        await client.lpush(name("type:"), b"x")
    assert await cache.get(KEY) is None
    assert faults == ["ResponseError"]
    await cache.put(KEY, OUTPUTS, 60)
    assert await cache.get(KEY) is not None
    await cache.close()


async def test_a_wrong_password_is_a_miss_and_a_right_one_works(
    redis_url: str, make: Any, faults: Faults
) -> None:
    async with Redis.from_url(redis_url) as client:
        await client.acl_setuser(
            "guest", enabled=True, passwords=["+s3cret"], keys=["*"], categories=["+@all"]
        )
    path = redis_url.removeprefix("unix://")
    wrong = make(f"unix://guest@{path}?password=n0t")
    assert await wrong.get(KEY) is None
    await wrong.put(KEY, OUTPUTS, 60)
    assert len(faults) == 2
    assert "n0t" not in "".join(faults)
    right = make(f"unix://guest@{path}?password=s3cret", prefix="password:")
    await right.put(KEY, OUTPUTS, 60)
    assert await right.get(KEY) is not None
    await wrong.close()
    await right.close()


async def test_a_read_only_server_is_a_miss(own_server: EmbeddedServer, make: Any, faults: Faults) -> None:
    cache = make(own_server.start())
    async with Redis.from_url(own_server.start()) as client:
        await client.replicaof("127.0.0.1", "1")
    await cache.put(KEY, OUTPUTS, 60)
    assert faults == ["ReadOnlyError"]
    assert await cache.get(KEY) is None
    await cache.close()


async def test_what_the_envelope_cannot_carry_is_a_fault_not_an_error(
    redis_url: str, make: Any, faults: Faults
) -> None:
    cache = make(redis_url)
    await cache.put(KEY, {"y": np.zeros(1, np.complex64)}, 60)
    assert faults == ["TensorRejected"]
    await cache.close()


async def test_a_stalled_server_is_a_miss_in_time_then_skipped_and_comes_back(
    own_server: EmbeddedServer, make: Any, clock: Any, faults: Faults
) -> None:
    cache = make(own_server.start(), clock=clock)
    await cache.put(KEY, OUTPUTS, 60)
    assert own_server.pid is not None
    os.kill(own_server.pid, signal.SIGSTOP)
    for _ in range(Breaker.FAULTS):
        got, took_s = await timed(cache.get(KEY))
        assert got is None
        assert took_s < 0.2
    for call in (cache.get(KEY), cache.put(KEY, OUTPUTS, 60)):
        got, took_s = await timed(call)
        assert got is None
        assert took_s < 0.005
    assert faults == ["TimeoutError"] * Breaker.FAULTS
    os.kill(own_server.pid, signal.SIGCONT)
    clock.now += Breaker.FIRST_S
    assert await cache.get(KEY) is not None
    await cache.close()


async def test_a_killed_server_is_a_miss_then_skipped_and_comes_back(
    own_server: EmbeddedServer, make: Any, clock: Any, faults: Faults
) -> None:
    cache = make(own_server.start(), clock=clock)
    await cache.put(KEY, OUTPUTS, 60)
    kill(own_server)
    for _ in range(Breaker.FAULTS):
        got, took_s = await timed(cache.get(KEY))
        assert got is None
        assert took_s < 0.2
    got, took_s = await timed(cache.get(KEY))
    assert got is None
    assert took_s < 0.005
    assert len(faults) == Breaker.FAULTS
    own_server.start()
    assert await cache.get(KEY) is None
    clock.now += Breaker.FIRST_S
    await cache.put(KEY, OUTPUTS, 60)
    assert await cache.get(KEY) is not None
    await cache.close()


async def test_a_server_that_was_never_there_is_a_miss(make: Any, faults: Faults) -> None:
    for url in ("unix:///nowhere/valkey.sock", "redis://127.0.0.1:1/0", "redis://no.such.host.invalid"):
        cache = make(url)
        got, took_s = await timed(cache.get(KEY))
        assert got is None
        assert took_s < 0.2
        await cache.close()
    assert len(faults) == 3


async def test_a_neighbour_that_speaks_no_redis_is_a_miss(make: Any, faults: Faults) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    neighbour = await asyncio.start_server(answer, "127.0.0.1", 0)
    cache = make(f"redis://127.0.0.1:{neighbour.sockets[0].getsockname()[1]}")
    assert await cache.get(KEY) is None
    assert len(faults) == 1
    await cache.close()
    neighbour.close()


async def test_many_calls_at_once_share_few_connections_and_all_are_answered(
    own_server: EmbeddedServer, make: Any, faults: Faults
) -> None:
    cache = make(own_server.start(), timeout_s=5)  # how long they take is the machine's business
    await cache.put(KEY, OUTPUTS, 60)
    got = await asyncio.gather(*(cache.get(KEY) for _ in range(200)))
    assert all(each is not None for each in got)
    async with Redis.from_url(own_server.start()) as client:
        assert (await client.info("stats"))["total_connections_received"] <= 32 + 3
    assert faults == []
    await cache.close()


async def test_a_cancelled_call_is_cancelled_and_leaves_the_pool_usable(
    own_server: EmbeddedServer, make: Any, faults: Faults
) -> None:
    cache = make(own_server.start(), timeout_s=5)  # a stopped server must not be a fault before the end
    await cache.put(KEY, OUTPUTS, 60)
    await cache.put(KEY[::-1], {"y": np.zeros(1)}, 60)
    assert own_server.pid is not None
    os.kill(own_server.pid, signal.SIGSTOP)
    calls = [asyncio.create_task(cache.get(KEY)) for _ in range(100)]
    await asyncio.sleep(0.01)
    for call in calls:
        call.cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    os.kill(own_server.pid, signal.SIGCONT)
    assert list((await cache.get(KEY[::-1])).outputs) == ["y"]
    assert set((await cache.get(KEY)).outputs) == {"y", "s"}
    assert faults == []
    await cache.close()


async def test_cancelling_at_any_moment_neither_leaks_a_slot_nor_mixes_answers(
    redis_url: str, make: Any, faults: Faults
) -> None:
    cache = make(redis_url, prefix="mix:")
    for number in range(4):
        await cache.put(bytes([number]), {"y": np.array([number])}, 60)
    for pause in range(60):
        call = asyncio.create_task(cache.get(bytes([pause % 4])))
        for _ in range(pause % 12):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
        number = (pause + 1) % 4
        assert (await cache.get(bytes([number]))).outputs["y"].tolist() == [number]
    assert faults == []
    await cache.close()


def test_a_cache_made_outside_of_a_loop_works_in_one(redis_url: str, make: Any) -> None:
    cache = make(redis_url, prefix="loop:")

    async def use() -> bool:
        await cache.put(KEY, OUTPUTS, 60)
        found = all(await asyncio.gather(*(cache.get(KEY) for _ in range(50))))
        await cache.close()
        return found

    assert asyncio.run(use())
    assert asyncio.run(use())  # close() has let go of the first loop


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        "http://user:s3cret@host",
        "redis://user:s3cret/x@host",
        "redis://user:pass@host:s3cret",
        "redis://:s3cret@host?no_such_option=1",
        "redis://:s3cret@host?db=s3cret",
        "rediss://:s3cret@host?ssl_cert_reqs=s3cret",
        "unix://",
        "unix://relative/s3cret.sock",
    ],
)
def test_a_bad_url_is_rejected_at_once_and_no_password_is_shown(make: Any, url: str) -> None:
    with pytest.raises(ConfigRejected, match=r"cache\.url") as caught:
        make(url)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__suppress_context__  # the hidden cause may quote it


async def test_a_value_over_a_mebibyte_is_not_shared_and_is_no_fault(redis_url: str) -> None:
    faults: list[str] = []
    cache = RedisCache(redis_url, "large:", 0.5, on_fault=faults.append)
    await cache.put(b"k", {"y": np.zeros(300_000, np.float32)}, 60)
    assert await cache.get(b"k") is None
    assert faults == []
    await cache.close()


async def test_one_of_those_who_claim_an_answer_computes_it_and_the_others_get_it(
    redis_url: str, make: Any, faults: Faults
) -> None:
    one, other = (make(redis_url, prefix="claim:") for _ in range(2))
    assert await one.claim(KEY, 5) is Claim.MINE
    assert await other.claim(KEY, 5) is Claim.TAKEN
    assert await one.claim(KEY, 5) is Claim.MINE  # its own
    assert await other.get(KEY) is None
    await one.put(KEY, OUTPUTS, 60)
    for cache in (one, other):
        kept = await cache.claim(KEY, 5)
        assert kept.outputs["y"].tobytes() == OUTPUTS["y"].tobytes()
    assert faults == []
    await one.close()
    await other.close()


async def test_a_claim_ends_when_it_is_released_or_its_lease_is_over(redis_url: str, make: Any) -> None:
    one, other = (make(redis_url, prefix="lease:") for _ in range(2))
    await one.claim(KEY, 5)
    await other.release(KEY)  # not its own
    assert await other.claim(KEY, 5) is Claim.TAKEN
    await one.release(KEY)
    assert await other.claim(KEY, 0.1) is Claim.MINE
    await asyncio.sleep(0.15)
    assert await one.claim(KEY, 0.1) is Claim.MINE
    await one.renew(KEY, 5)
    await asyncio.sleep(0.15)
    assert await other.claim(KEY, 5) is Claim.TAKEN
    await one.put(KEY, {"y": np.zeros(300_000, np.float32)}, 60)  # too large to be shared
    assert await other.claim(KEY, 5) is Claim.MINE
    await one.close()
    await other.close()


async def test_what_is_odd_under_our_key_is_claimed(redis_url: str, make: Any, faults: Faults) -> None:
    one, other = (make(redis_url, prefix="odd:") for _ in range(2))
    async with Redis.from_url(redis_url) as client:
        await client.lpush(name("odd:"), b"x")
        assert await one.claim(KEY, 5) is Claim.MINE
        await client.set(name("odd:"), b"junk")
        assert await one.claim(KEY, 5) is Claim.MINE
    assert await other.claim(KEY, 5) is Claim.TAKEN
    assert faults == ["ResponseError", "Damaged"]
    await one.close()
    await other.close()


@pytest.mark.parametrize("how", ["full", "read-only", "not-permitted"])
async def test_where_nothing_can_be_written_answers_are_read_all_the_same(
    own_server: EmbeddedServer, make: Any, faults: Faults, clock: Any, how: str
) -> None:
    url = own_server.start()
    async with Redis.from_url(url) as client:
        await client.acl_setuser(
            "reader", enabled=True, nopass=True, keys=["*"], commands=["+get", "-set"], categories=["-@all"]
        )
        user = f"unix://reader@{url.removeprefix('unix://')}?password=any"
        cache = make(user if how == "not-permitted" else url, clock=clock)
        writer = make(url)
        await writer.put(KEY, OUTPUTS, 60)
        if how == "full":
            await client.config_set("maxmemory-policy", "noeviction")
            await client.config_set("maxmemory", 1)
        elif how == "read-only":
            await client.config_set("replica-serve-stale-data", "yes")
            await client.replicaof("127.0.0.1", "1")
        for _ in range(2 * Breaker.FAULTS):
            kept = await cache.claim(KEY, 5)
            assert kept.outputs["y"].tobytes() == OUTPUTS["y"].tobytes()
        assert await cache.claim(KEY[::-1], 5) is Claim.NONE
        assert len(faults) == 1  # it does not ask for claims again and again
        if how == "full":
            await client.config_set("maxmemory", 0)
            clock.now += 5
            assert await cache.claim(KEY[::-1], 5) is Claim.MINE
    await cache.close()
    await writer.close()


async def test_a_claim_at_a_server_that_is_gone_is_nobodys(
    own_server: EmbeddedServer, make: Any, faults: Faults
) -> None:
    cache = make(own_server.start())
    kill(own_server)
    for _ in range(2 * Breaker.FAULTS):
        assert await cache.claim(KEY, 5) is Claim.NONE
        await cache.renew(KEY, 5)
        await cache.release(KEY)
    assert len(faults) == Breaker.FAULTS
    await cache.close()


ENTRIES = [(model, version, tenant) for model in ("a", "b") for version in "12" for tenant in ("", "acme")]


@pytest.mark.parametrize(
    ("scope", "left"),
    [
        (("a", None, None), 4),
        (("a", "1", None), 6),
        ((None, None, "acme"), 4),
        ((None, None, ""), 4),
        (("b", "2", "acme"), 7),
        ((None, None, None), 0),
        (("c", None, None), 8),
    ],
)
async def test_a_purge_deletes_what_it_is_about_and_nothing_else(
    own_server: EmbeddedServer, make: Any, scope: tuple[Any, ...], left: int
) -> None:
    cache, other = make(own_server.start(), prefix="p[1]*:"), make(own_server.start(), prefix="p1:")
    names = [name_of(*entry, KEY) for entry in ENTRIES]
    for one in names:
        await cache.put(one, OUTPUTS, 60)
        await other.put(one, OUTPUTS, 60)
    assert await cache.purge(Scope.of(*scope)) == 8 - left
    kept = [await cache.get(one) is not None for one in names]
    assert kept == [not Scope.of(*scope).matches(one) for one in names]
    assert all([await other.get(one) is not None for one in names])
    await cache.close()
    await other.close()


async def test_a_purge_of_thousands_deletes_all(own_server: EmbeddedServer, make: Any) -> None:
    cache = make(own_server.start())
    async with Redis.from_url(own_server.start()) as client:
        await client.mset({b"test:" + name_of("a", "1", "", n.to_bytes(32)): b"x" for n in range(3210)})
    assert await cache.purge(Scope.of("a", None, None)) == 3210
    await cache.close()


async def test_a_purge_that_cannot_be_done_says_so_and_shows_no_secret(
    own_server: EmbeddedServer, make: Any
) -> None:
    url = own_server.start()
    kill(own_server)
    for bad in (url, f"unix://guest@{url.removeprefix('unix://')}?password=s3cret"):
        cache = make(bad)
        with pytest.raises(EngineUnavailable, match="did not answer; try again") as caught:
            await cache.purge(Scope())
        assert "s3cret" not in str(caught.value)
        await cache.close()


async def test_a_process_that_was_busy_does_not_take_that_for_a_fault_of_the_server(
    redis_url: str, make: Any, faults: Faults
) -> None:
    cache = make(redis_url, prefix="busy:")
    await cache.put(KEY, OUTPUTS, 60)
    call = asyncio.create_task(cache.get(KEY))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    time.sleep(3 * TIMEOUT_S)  # noqa: ASYNC251 - the point: the loop is busy with something else
    assert await call is not None
    assert faults == []
    await cache.close()
