"""One cache, wherever it is: behind TLS, with Sentinels through a failover, spread over a cluster."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from urllib.parse import quote

import numpy as np
import pytest

from cache.kept import Claim, Kept
from cache.places import place_of
from cache.redis import RedisCache
from cache.scope import Scope, name_of
from deployments.ports import free_ports
from headrace.errors import ConfigRejected, EngineUnavailable
from tests.cache.valkeys import HOST, ask, behind_tls, certificate, sentinel, valkey, wait_for

OUTPUTS = {"y": np.arange(4, dtype=np.float32)}
SERVICE = "cache"
BACK_S = 10.0


def key(number: int = 0, model: str = "model") -> bytes:
    return name_of(model, "1", "", number.to_bytes(32, "big"))


def cache_at(url: str, faults: list[str] | None = None) -> RedisCache:
    return RedisCache(url, "test:", 0.5, on_fault=(faults if faults is not None else []).append)


async def until(call: Callable[[], Awaitable[bool]]) -> float:
    """The seconds until it is so."""
    began = time.monotonic()
    while not await call():
        assert time.monotonic() - began < BACK_S
        await asyncio.sleep(0.02)
    return time.monotonic() - began


async def is_kept(cache: RedisCache, number: int) -> bool:
    await cache.put(key(number), OUTPUTS, 60)
    kept = await cache.get(key(number))
    return kept is not None and np.array_equal(kept.outputs["y"], OUTPUTS["y"])


async def can_purge(cache: RedisCache) -> bool:
    """A server that has just become the primary is made to close its connections, and says so."""
    try:
        return await cache.purge(Scope()) >= 0
    except EngineUnavailable:
        return False


async def test_through_tls_a_certificate_is_checked(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    files = certificate(tmp_path)
    with valkey(tmp_path / "server", port):
        async with behind_tls(port, *files) as tls_port:
            faults: list[str] = []
            cache = cache_at(f"rediss://{HOST}:{tls_port}?ssl_ca_certs={quote(str(files[0]))}", faults)
            assert await is_kept(cache, 1)
            assert await cache.purge(Scope()) == 1
            assert faults == []
            await cache.close()
            stranger = cache_at(f"rediss://{HOST}:{tls_port}", faults)
            assert not await is_kept(stranger, 2)
            assert faults
            await stranger.close()


@dataclass(frozen=True, slots=True)
class Pair:
    """A primary, its replica, and the Sentinel that watches them."""

    url: str
    ports: tuple[int, int]
    primary: Popen[bytes]
    watch: int


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    first, second, watch = free_ports(3)
    with ExitStack() as stack:
        primary = stack.enter_context(valkey(tmp_path / "first", first))
        stack.enter_context(valkey(tmp_path / "second", second, "--replicaof", f"{HOST} {first}"))
        told = sentinel(SERVICE, first)
        stack.enter_context(valkey(tmp_path / "watch", watch, "--sentinel", config=told))
        wait_for(lambda: b"slave0" in _info(first), "the replica")
        wait_for(lambda: f"{HOST}".encode() in _replicas(watch), "the Sentinel sees the replica")
        (dead,) = free_ports(1)
        yield Pair(
            f"redis+sentinel://{HOST}:{dead},{HOST}:{watch}/{SERVICE}", (first, second), primary, watch
        )


def _info(port: int) -> bytes:
    return str(ask(port, "INFO", "replication")).encode()


def _replicas(port: int) -> bytes:
    return str(ask(port, "SENTINEL", "REPLICAS", SERVICE)).encode()


async def test_after_a_failover_the_new_primary_is_used(pair: Pair) -> None:
    faults: list[str] = []
    cache = cache_at(pair.url, faults)
    await until(lambda: is_kept(cache, 1))
    assert faults == []
    assert (await cache.stats())["answers"] == {"model/1": 1}
    pair.primary.kill()
    pair.primary.wait()
    assert await until(lambda: is_kept(cache, 2)) < BACK_S
    assert str(ask(pair.ports[1], "ROLE")).startswith("[b'master'")
    await until(lambda: can_purge(cache))
    assert await cache.get(key(2)) is None
    await cache.close()


async def test_a_primary_that_hangs_is_left_for_the_new_one(pair: Pair) -> None:
    cache = cache_at(pair.url)
    await until(lambda: is_kept(cache, 1))
    os.kill(pair.primary.pid, signal.SIGSTOP)
    try:
        assert await until(lambda: is_kept(cache, 2)) < BACK_S
    finally:
        os.kill(pair.primary.pid, signal.SIGCONT)
    await cache.close()


async def test_a_primary_made_a_replica_is_read_and_then_left(pair: Pair) -> None:
    """READONLY: its old address answers, but takes nothing."""
    cache = cache_at(pair.url)
    await until(lambda: is_kept(cache, 1))
    wait_for(lambda: bool(ask(pair.ports[1], "DBSIZE")), "the answer on the replica")
    ask(pair.watch, "SENTINEL", "FAILOVER", SERVICE)
    wait_for(lambda: "slave" in str(ask(pair.ports[0], "ROLE")), "the change of roles")
    assert await cache.claim(key(1), 1.0) is not None  # no error, whatever it is
    assert await until(lambda: is_kept(cache, 3)) < BACK_S
    assert "master" in str(ask(pair.ports[1], "ROLE"))
    await cache.close()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, ...]]:
    folder = tmp_path_factory.mktemp("cluster")
    ports = _free_below_55535(3)
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000")
    with ExitStack() as stack:
        for port in ports:
            stack.enter_context(valkey(folder / str(port), port, *options))
        for port in ports[1:]:
            ask(ports[0], "CLUSTER", "MEET", HOST, port)
        for number, port in enumerate(ports):
            first, last = (16384 * edge // 3 for edge in (number, number + 1))
            ask(port, "CLUSTER", "ADDSLOTSRANGE", first, last - 1)
        for port in ports:
            wait_for(lambda port=port: "cluster_state:ok" in _state(port), "the cluster's agreement")  # type: ignore[misc]
        yield ports


def _free_below_55535(count: int) -> tuple[int, ...]:
    """Nodes talk to each other 10,000 ports higher."""
    found: list[int] = []
    while len(found) < count:
        found += [port for port in free_ports(count) if port < 55_535]
    return tuple(found[:count])


def _state(port: int) -> str:
    return str(ask(port, "CLUSTER", "INFO")).replace("'cluster_state': 'ok'", "cluster_state:ok")


def url_of(ports: tuple[int, ...]) -> str:
    return "redis+cluster://" + ",".join(f"{HOST}:{port}" for port in ports)


async def test_a_cluster_keeps_each_answer_on_its_node(cluster: tuple[int, ...]) -> None:
    faults: list[str] = []
    cache = cache_at(url_of(cluster[:1]), faults)
    await until(lambda: is_kept(cache, 0))
    for number in range(60):
        assert await is_kept(cache, number)
    sizes = [ask(port, "DBSIZE") for port in cluster]
    assert all(sizes)
    told = await cache.stats()
    assert told["answers"] == {"model/1": 60}
    assert await cache.claim(key(61), 5) is Claim.MINE
    assert await cache.claim(key(61), 5) is not Claim.TAKEN  # by itself: again
    assert isinstance(await cache.claim(key(5), 5), Kept)
    assert await cache.purge(Scope.of("model", None, None)) >= 60
    log = await cache.purges(0)
    assert log is not None
    assert len(log.entries) == 2
    assert await cache.get(key(5)) is None
    assert faults == []
    await cache.close()


async def test_a_slot_that_moved_is_found_again(cluster: tuple[int, ...]) -> None:
    cache = cache_at(url_of(cluster))
    await until(lambda: is_kept(cache, 100))
    name = (b"test:" + key(100)).decode()
    slot = int(str(ask(cluster[0], "CLUSTER", "KEYSLOT", name)))
    owner = next(port for port in cluster if ask(port, "CLUSTER", "COUNTKEYSINSLOT", slot))
    other = next(port for port in cluster if port != owner)
    target = ask(other, "CLUSTER", "MYID").decode()  # type: ignore[attr-defined]
    ask(owner, "UNLINK", name)
    for port in (other, owner, *cluster):
        ask(port, "CLUSTER", "SETSLOT", slot, "NODE", target)
    assert await until(lambda: is_kept(cache, 100)) < BACK_S
    assert ask(other, "CLUSTER", "COUNTKEYSINSLOT", slot) == 1
    await cache.close()


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://:s3cret@h:1",
        "redis+sentinel://:s3cret@/name",
        "redis+sentinel://:s3cret@h:port/name",
        "redis+cluster://:s3cret@h/name",
        "redis+other://:s3cret@h/name",
        "http+cluster://:s3cret@h",
        "redis+cluster://:s3cret@h?no_such_option=1",
        "redis+sentinel://:s3cret@h/name/db",
    ],
)
def test_a_bad_url_is_refused_and_no_password_is_shown(url: str) -> None:
    with pytest.raises(ConfigRejected, match=r"cache\.url") as caught:
        place_of(url, 0.1)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


async def test_where_nobody_tells_of_a_cluster_all_is_a_miss() -> None:
    (port,) = free_ports(1)
    for url in (f"redis+cluster://{HOST}:{port}", f"redis+sentinel://{HOST}:{port}/{SERVICE}"):
        cache = cache_at(url)
        assert await cache.get(key()) is None
        assert await cache.claim(key(), 1) is Claim.NONE
        await cache.put(key(), OUTPUTS, 60)
        await asyncio.sleep(0.1)
        assert await cache.get(key()) is None
        await cache.close()
