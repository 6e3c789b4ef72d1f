"""The cache's Redis or Valkey: whether it answers, how fast, and whether it is set up as a cache."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from statistics import median
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from cache.embedded import EmbeddedServer
from cache.places import place_of
from deployments.doctor.check import Check, bad, ok, unless, warn
from headrace.config import Config, with_variables
from headrace.errors import ConfigRejected
from monitoring.glyphs import seconds, size

_PATIENCE_S = 3.0
_PINGS = 20
_NEAR = 0.25  # of the time after which the cache gives up
MOST_SKEW_S = 1.0
_TRIAL_MIB = 16


def checks(config: Config | None) -> Iterator[Check]:
    if config is None or (config.cache.enabled and config.cache.url is None):
        yield embedded(is_needed=config is not None)
    elif not config.cache.enabled:
        yield ok("Redis", "not asked for (cache.enabled: false)")
    else:
        yield from asyncio.run(_external(config))


def embedded(is_needed: bool) -> Check:
    """Whether a private server starts here."""
    try:
        with EmbeddedServer(_TRIAL_MIB):
            return ok("embedded Valkey", "starts and answers")
    except ConfigRejected as err:
        advice = "install headrace[embedded], or give cache.url in the configuration"
        return Check("embedded Valkey", "bad" if is_needed else "warn", str(err), advice)


async def _external(config: Config) -> list[Check]:
    assert config.cache.url is not None
    timeout_s = config.cache.timeout_ms / 1000
    try:
        place = place_of(with_variables(config.cache.url, os.environ), timeout_s)
    except ConfigRejected as err:
        return [bad("Redis", "cannot be looked for", str(err))]
    try:
        async with asyncio.timeout(_PATIENCE_S), place.clients() as clients:
            return [check for client in clients async for check in _server(client, timeout_s)]
    except (RedisError, OSError, TimeoutError) as err:
        advice = "every request is computed until it answers: see whether it runs, and cache.url"
        return [bad("Redis", f"does not answer ({type(err).__name__})", advice)]
    finally:
        await place.close()


async def _server(client: Redis, timeout_s: float) -> AsyncIterator[Check]:
    where = name_of(client.connection_pool.connection_kwargs)
    info = await client.info()
    yield version(where, info)
    took = []
    for _ in range(_PINGS):
        started = time.perf_counter()
        await client.ping()
        took.append(time.perf_counter() - started)
    yield latency(where, median(took), timeout_s)
    yield eviction(where, info)
    yield persistence(where, info, await _snapshots(client))
    with contextlib.suppress(RedisError):  # it may be forbidden
        asked = time.time()
        told_s, told_us = await client.time()
        yield clock(where, told_s + told_us / 1e6 - (asked + time.time()) / 2)


async def _snapshots(client: Redis) -> str:
    """When it saves everything to its disk; "": never, or it may not be asked."""
    try:
        return str((await client.config_get("save")).get("save", ""))
    except RedisError:
        return ""


def name_of(options: Mapping[str, Any]) -> str:
    """Where a server is, without who asks it."""
    return str(options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}")


def version(where: str, info: Mapping[str, Any]) -> Check:
    name = "Valkey" if "valkey_version" in info else "Redis"
    told = str(info.get("valkey_version") or info.get("redis_version", "unknown"))
    is_new = int(told.partition(".")[0] or 0) >= 7 if told[:1].isdigit() else False
    advice = "from 7 on, identical requests at several gateways are computed once"
    return unless(is_new, "warn", f"Redis {where}", f"{name} {told}", advice)


def latency(where: str, took_s: float, timeout_s: float) -> Check:
    title, told = f"latency of {where}", f"{seconds(took_s)} for a question"
    if took_s >= timeout_s:
        advice = (
            f"the cache gives up after {seconds(timeout_s)}: have it nearer by, or raise cache.timeout_ms"
        )
        return bad(title, told, advice)
    advice = f"that is much of the {seconds(timeout_s)} after which the cache gives up (cache.timeout_ms)"
    return unless(took_s < _NEAR * timeout_s, "warn", title, told, advice)


def eviction(where: str, info: Mapping[str, Any]) -> Check:
    limit, policy = int(info.get("maxmemory", 0)), str(info.get("maxmemory_policy", "unknown"))
    title, told = f"memory of {where}", f"{size(limit) if limit else 'no limit'}, {policy}"
    if not limit:
        return warn(title, told, "it grows until the machine has no more: set maxmemory, say to 1gb")
    advice = "once it is full it takes no new answers: set maxmemory-policy to allkeys-lru or allkeys-lfu"
    return unless(policy != "noeviction", "warn", title, told, advice)


def persistence(where: str, info: Mapping[str, Any], snapshots: str) -> Check:
    kinds = [
        *(["AOF"] if info.get("aof_enabled") else []),
        *([f"snapshots ({snapshots})"] if snapshots else []),
    ]
    advice = "a cache need not survive, and writing makes it late: appendonly no, save ''"
    return unless(not kinds, "warn", f"persistence of {where}", " and ".join(kinds) or "none", advice)


def clock(where: str, skew_s: float) -> Check:
    told = f"{abs(skew_s):.3f} s {'ahead of' if skew_s > 0 else 'behind'} this machine's"
    advice = "ages of answers and leases are wrong by that: have both machines follow NTP"
    return unless(abs(skew_s) <= MOST_SKEW_S, "warn", f"clock of {where}", told, advice)
