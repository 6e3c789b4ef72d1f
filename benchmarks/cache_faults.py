"""What the cache does when its shared store is wrong, slow or gone: the answers stay right and on time."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import uvloop
from redis import Redis

from benchmarks import way_in
from benchmarks.figures import Figure
from cache.embedded import EmbeddedServer
from cache.redis import RedisCache
from deployments.load import Load, closed_loop, infer_request
from deployments.ports import free_ports
from deployments.serving import serving
from headrace.config import parse_config

HOST = "127.0.0.1"
MODEL = "double"
PREFIX = "headrace:"


def mutations(count: int) -> Iterator[Figure]:
    """Stored bytes changed at random, cut or added to, then read."""
    wrong, misses = uvloop.run(_mutated(count))
    yield Figure("mutations: wrong answers", wrong, "answers", "<= 0")
    yield Figure("mutations: misses", misses, "reads", f">= {count}")


async def _mutated(count: int) -> tuple[int, int]:
    rng = random.Random(3)
    wrong = misses = 0
    with EmbeddedServer(64) as server:
        url = server.start()
        cache = RedisCache(url, PREFIX, 5.0, on_fault=lambda _: None)
        client = Redis.from_url(url)
        for number in range(count):
            outputs = {"y": np.random.default_rng(number).random((1, rng.randrange(1, 64)), np.float32)}
            await cache.put(b"k", outputs, 60)
            value = client.get(PREFIX + "k")
            assert isinstance(value, bytes)
            client.set(PREFIX + "k", _mutation(value, rng))
            kept = await cache.get(b"k")
            misses += kept is None
            wrong += kept is not None
            client.delete(PREFIX + "k")
        client.close()
        await cache.close()
    return wrong, misses


def _mutation(value: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(value))
    match rng.randrange(4):
        case 0:
            return value[:at] + bytes([value[at] ^ rng.randrange(1, 256)]) + value[at + 1 :]
        case 1:
            return value[:at]
        case 2:
            return value + rng.randbytes(rng.randrange(1, 16))
        case _:
            other = rng.randbytes(min(8, len(value) - at))
            changed = value[:at] + other + value[at + len(other) :]
            return changed if changed != value else value[:-1]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong with a server, and how it is mended."""

    name: str
    begin: Callable[[EmbeddedServer], None]
    end: Callable[[EmbeddedServer], None]


def _signal(number: signal.Signals) -> Callable[[EmbeddedServer], None]:
    def send(server: EmbeddedServer) -> None:
        assert server.pid is not None
        os.kill(server.pid, number)

    return send


def _told(*commands: Sequence[str]) -> Callable[[EmbeddedServer], None]:
    def tell(server: EmbeddedServer) -> None:
        with _client(server) as client:
            for command in commands:
                client.execute_command(*command)  # type: ignore[no-untyped-call]

    return tell


def _start(server: EmbeddedServer) -> None:
    while server.pid is not None:
        time.sleep(0.01)
    server.start()


def _wrong_types(server: EmbeddedServer) -> None:
    """Everything of ours becomes a list."""
    with _client(server) as client:
        for name in client.scan_iter(f"{PREFIX}*:*"):
            client.delete(name)
            client.rpush(name, b"x")


def _nothing(_: EmbeddedServer) -> None:
    return


@contextmanager
def _client(server: EmbeddedServer) -> Iterator[Redis]:
    client = Redis.from_url(server.start())
    try:
        yield client
    finally:
        client.close()


FAULTS = (
    Fault("hung", _signal(signal.SIGSTOP), _signal(signal.SIGCONT)),
    Fault("killed", _signal(signal.SIGKILL), _start),
    Fault(
        "full",
        _told(("CONFIG", "SET", "maxmemory-policy", "noeviction"), ("CONFIG", "SET", "maxmemory", "1")),
        _told(("CONFIG", "SET", "maxmemory", "64mb"), ("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")),
    ),
    Fault(
        "wrong password",
        _told(
            ("CONFIG", "SET", "requirepass", "another"), ("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        ),
        lambda server: _unlock(server),
    ),
    Fault("a replica, read-only", _told(("REPLICAOF", HOST, "1")), _told(("REPLICAOF", "NO", "ONE"))),
    Fault("wrong types", _wrong_types, _nothing),
)


def _unlock(server: EmbeddedServer) -> None:
    client = Redis.from_url(server.start(), password="another")
    client.config_set("requirepass", "")
    client.close()


def faults(root: Path, seconds: float) -> Iterator[Figure]:
    """Load of which half repeats, each fault in its middle: failures, wrong answers, what it costs, and when
    the shared store is used again."""
    way_in.publish(root, MODEL)
    (port,) = free_ports(1)
    with EmbeddedServer(64) as store:
        document = {
            "repository": str(root),
            "http": {"port": port},
            "cache": {"url": store.start(), "memory_mib": 0.0},
            "models": {MODEL: {"cache": True, "cache_shared": "always"}},
        }
        with serving(parse_config(document)):
            calm = _answers(port, seconds)
            yield Figure("faults: P99 without any", calm.percentile_ms(99), "ms")
            for fault in FAULTS:
                yield from _fault(fault, store, port, seconds)


def _fault(fault: Fault, store: EmbeddedServer, port: int, seconds: float) -> Iterator[Figure]:
    fault.begin(store)
    try:
        load = _answers(port, seconds)
    finally:
        fault.end(store)
    first = [reply.seconds * 1000 for reply in load.replies[:200]]
    rest = [reply.seconds * 1000 for reply in load.replies[len(load.replies) // 2 :]]
    yield Figure(f"faults: {fault.name}: failed or wrong", _bad(load), "answers", "<= 0")
    yield Figure(f"faults: {fault.name}: slowest of the first 200", max(first), "ms")
    yield Figure(f"faults: {fault.name}: P99 of the later half", float(np.percentile(rest, 99)), "ms")
    yield Figure(f"faults: {fault.name}: used again after", _back_s(port), "s", "<= 10")


WIDTHS = range(1, 65)
XS = {width: np.linspace(0, width, width, dtype=np.float32).reshape(1, width) for width in WIDTHS}


def _answers(port: int, seconds: float) -> Load:
    """Four clients ask the same 64 requests again and again for a while."""
    bodies = [infer_request(HOST, MODEL, {"x": XS[width]}) for width in WIDTHS]
    loads: list[Load] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        loads.append(uvloop.run(closed_loop(HOST, port, bodies * 8, 4)))
    return Load([reply for load in loads for reply in load.replies], sum(load.seconds for load in loads))


def _bad(load: Load) -> int:
    bad = 0
    for number, reply in enumerate(load.replies):
        expected = 2 * XS[WIDTHS[number % len(WIDTHS)]]
        split = int(reply.headers.get("inference-header-content-length", 0))
        bad += reply.status != 200 or reply.body[split:] != expected.tobytes()
    return bad


def _back_s(port: int) -> float:
    """Until one request after another is answered from the shared store."""
    body = infer_request(HOST, MODEL, {"x": XS[7]})
    started = time.monotonic()
    while time.monotonic() - started < 30:
        tiers = asyncio.run(closed_loop(HOST, port, [body] * 8, 4)).tiers()
        if set(tiers) == {"redis"}:
            break
        time.sleep(0.1)
    return time.monotonic() - started
