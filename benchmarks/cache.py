"""Answers remembered: what that saves, what a hit costs, and that nothing wrong ever comes out.

Real chat messages in time order, MiniLM-L6 in FP32, two gateways, the embedded Valkey; then what the tiers
cost beside a bare echo, a stampede, stored bytes changed at random, and every fault of the shared store
under load.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import uvloop
from ray import serve

from benchmarks import cache_faults, cache_features, minilm, way_in
from benchmarks.figures import Figure, arguments, finish, middle
from benchmarks.flights import tail_numbers
from benchmarks.minilm import MODEL
from cache.keys import key_of
from cache.memory import MemoryCache
from deployments.load import Load, closed_loop, infer_request
from deployments.ports import free_ports
from deployments.serving import serving
from examples.minilm.data import chat, tokenize
from headrace.config import Config, parse_config

HOST = "127.0.0.1"
REMEMBERS = f"{MODEL}-remembers"  # the same model, with the cache
CLIENTS = 64
PARTS = ("policy", "trace", "hits", "features", "stampede", "mutations", "faults")
REPEATS, RECENT = 0.3, 500  # so many of the requests repeat one of so many before them
ENTRY = {"y": np.zeros(384, np.float32)}


def main() -> int:
    options = arguments(__doc__, parts=PARTS)
    parts = options.only or PARTS
    quick = options.quick
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if "policy" in parts:
            figures += policy(20_000 if quick else 350_000)
        if "trace" in parts:
            figures += trace(root, *((300, 2) if quick else (1500, 12)))
        if "hits" in parts:
            figures += hits(root, *((200, 2) if quick else (2000, 7)))
        if "features" in parts:
            figures += cache_features.two_heads(root, *((200, 1, 100) if quick else (2000, 4, 800)))
        if "stampede" in parts:
            figures += stampede(root)
        if "mutations" in parts:
            figures += cache_faults.mutations(500 if quick else 10_000)
        if "faults" in parts:
            figures += cache_faults.faults(root / "faults", 2.0 if quick else 6.0)
    return finish(figures, options.json)


# -- what is kept ------------------------------------------------------------------------------------------


def policy(count: int) -> Iterator[Figure]:
    """Hit rates of the memory tier over real traces, against the same policy with exact counts."""
    texts = [key_of("d", {"t": np.array([text], object)}, (), {}, "") for text in chat(count)]
    planes = [plane.encode() for plane in tail_numbers()[:count]]
    for trace, keys, kept in (("chat", texts, (300, 2000, 10_000)), ("flights", planes, (300, 1000))):
        yield Figure(f"policy: {trace}, repeats in the trace", 1 - len(set(keys)) / len(keys), "share")
        cache = MemoryCache(10**9)
        cache.put(keys[0], ENTRY, 3600)
        for entries in kept:
            ours = hit_rate(keys, MemoryCache(entries * cache.num_bytes))
            best = exact_hit_rate(keys, entries)
            what = f"{trace}, {entries} kept"
            yield Figure(f"policy: hits, {what}", ours, "share")
            yield Figure(f"policy: the same, LRU, {what}", lru_hit_rate(keys, entries), "share")
            yield Figure(
                f"policy: less than with exact counts, {what}", 100 * (best - ours), "points", "<= 1"
            )


def hit_rate(keys: Sequence[bytes], cache: MemoryCache) -> float:
    num_hits = 0
    for key in keys:
        if cache.get(key) is not None:
            num_hits += 1
        else:
            cache.put(key, ENTRY, 1e9)
    return num_hits / len(keys)


def lru_hit_rate(keys: Iterable[bytes], size: int) -> float:
    kept: OrderedDict[bytes, None] = OrderedDict()
    num_hits = count = 0
    for key in keys:
        count += 1
        if key in kept:
            num_hits += 1
        kept[key] = None
        kept.move_to_end(key)
        if len(kept) > size:
            kept.popitem(last=False)
    return num_hits / count


def exact_hit_rate(keys: Sequence[bytes], size: int) -> float:
    """The same policy, written apart, with a count of its own for each key."""
    new: OrderedDict[bytes, None] = OrderedDict()
    main: OrderedDict[bytes, None] = OrderedDict()
    asked: Counter[bytes] = Counter()
    num_hits = num_asked = 0
    for key in keys:
        asked[key] += 1
        num_asked += 1
        if num_asked > 10 * size:
            asked, num_asked = Counter({key: count // 2 for key, count in asked.items() if count > 1}), 0
        where = main if key in main else new
        if key in where:
            num_hits += 1
            where.move_to_end(key)
            continue
        new[key] = None
        if len(new) <= size // 10:
            continue
        leaving, _ = new.popitem(last=False)
        if len(main) >= size - size // 10:
            oldest = next(iter(main))
            if asked[leaving] <= asked[oldest]:
                continue
            del main[oldest]
        main[leaving] = None
    return num_hits / len(keys)


# -- what it saves -----------------------------------------------------------------------------------------


def trace(root: Path, count: int, rounds: int) -> Iterator[Figure]:
    """Messages of which three in ten repeat an earlier one, with and without the cache.

    In short turns, since this machine's speed changes within minutes: one model under two names, of which
    one remembers.
    """
    publish_minilm(root)
    publish_minilm(root, REMEMBERS)
    texts = [tokenize(text) for text in repeating(chat(2 * count), count)]
    bodies = {name: [infer_request(HOST, name, text) for text in texts] for name in (MODEL, REMEMBERS)}
    (port,) = free_ports(1)
    document = {
        "repository": str(root),
        "http": {"port": port},
        "models": {MODEL: {}, REMEMBERS: {"cache": True}},
    }
    loads: dict[str, list[Load]] = {MODEL: [], REMEMBERS: []}
    with serving(parse_config(document)):
        for name in (MODEL, REMEMBERS):
            ask(port, bodies[name][:300], CLIENTS)
        for number in range(rounds):
            for name in (MODEL, REMEMBERS) if number % 2 == 0 else (REMEMBERS, MODEL):
                forget()
                loads[name].append(ask(port, bodies[name], CLIENTS))
    rates = {name: [load.per_second for load in each] for name, each in loads.items()}
    found = [tier in ("memory", "redis", "flight") for load in loads[REMEMBERS] for tier in load.tiers()]
    yield Figure("trace: repeats", 1 - len(set(bodies[MODEL])) / count, "share")
    yield Figure("trace: not computed", sum(found) / len(found), "share")
    for name, what in ((MODEL, "without"), (REMEMBERS, "with")):
        yield Figure(f"trace: {what} the cache", middle(rates[name]), "requests/s")
        p50 = middle([load.percentile_ms(50) for load in loads[name]])
        yield Figure(f"trace: P50 {what} the cache", p50, "ms")
    ratios = [a / b for a, b in zip(rates[REMEMBERS], rates[MODEL], strict=True)]
    yield Figure("trace: with / without", middle(ratios), "ratio", ">= 1.35")
    for name, share in (("lowest quarter", 25), ("highest quarter", 75)):
        yield Figure(f"trace: with / without, {name} of turns", float(np.percentile(ratios, share)), "ratio")


def repeating(texts: Sequence[str], count: int) -> list[str]:
    """The texts in their order, each once, and between them repetitions of recent ones."""
    rng = np.random.default_rng(7)
    fresh = iter(dict.fromkeys(texts))
    made: list[str] = []
    while len(made) < count:
        if made and rng.random() < REPEATS:
            made.append(made[-1 - int(rng.integers(min(RECENT, len(made))))])
        else:
            made.append(next(fresh))
    return made


# -- what a hit costs --------------------------------------------------------------------------------------


def hits(root: Path, requests: int, rounds: int) -> Iterator[Figure]:
    """One client, one small tensor: a bare echo, a hit in memory, a hit in Redis, in turns."""
    way_in.publish(root, "double")
    (port,) = free_ports(1)
    x = np.linspace(0, 1, 16, dtype=np.float32).reshape(1, 16)
    body = infer_request(HOST, "double", {"x": x})
    echoed = body.replace(b"POST /v2/models/double/infer ", b"POST /echo ", 1)
    memory, redis = (
        config(
            root,
            port,
            "double",
            {"cache": True, "cache_shared": "always", "cache_memory_mib": mib},
            gateways=1,
        )
        for mib in (8.0, 0.0)
    )
    deployment: Any = serve.deployment(max_ongoing_requests=1024, ray_actor_options={"num_cpus": 0})(
        way_in.Echo
    )
    times: dict[str, list[float]] = {"echo": [], "memory": [], "redis": []}
    with serving(memory) as server:
        serve.run(deployment.bind(), name="echo", route_prefix="/echo")
        for number in range(rounds + 1):
            for kind, document in (("echo", None), ("memory", memory), ("redis", redis)):
                if document is not None:
                    server.update(document)
                    ask(port, [body] * 50, 1)
                load = ask(port, [echoed if document is None else body] * requests, 1)
                tiers = set(load.tiers())
                if document is not None and tiers != {kind}:
                    raise SystemExit(f"answers came from {tiers}: the times would mean nothing")
                if number:  # the first round warms up
                    times[kind].append(load.percentile_ms(50))
    for kind, each in times.items():
        yield Figure(f"hits: P50, {kind}", middle(each), "ms")
    ratio = [a / b for a, b in zip(times["memory"], times["echo"], strict=True)]
    more = [a - b for a, b in zip(times["redis"], times["memory"], strict=True)]
    yield Figure("hits: memory / echo", middle(ratio), "ratio", "<= 1.3")
    yield Figure("hits: Redis adds", middle(more), "ms", "<= 1")


def stampede(root: Path) -> Iterator[Figure]:
    """A thousand identical requests at once, at two gateways, of an answer that nobody has."""
    publish_minilm(root)
    (port,) = free_ports(1)
    computed: list[float] = []
    with serving(config(root, port, MODEL, {"cache": True})):
        for text in chat(10):
            body = infer_request(HOST, MODEL, tokenize(text))
            forget()
            load = ask(port, [body] * 1000, 256)
            computed.append(sum(tier == "miss" for tier in load.tiers()))
    yield Figure("stampede: engine calls of 1,000 requests, most", max(computed), "calls", "<= 1")
    yield Figure("stampede: the same, fewest", min(computed), "calls", ">= 1")


# -- helpers -----------------------------------------------------------------------------------------------


def publish_minilm(root: Path, name: str = MODEL) -> None:
    """For the parts that want it; the first one does."""
    if not (root / name).exists():
        minilm.publish(root, name)


def config(root: Path, port: int, model: str, entry: dict[str, Any], gateways: int = 2) -> Config:
    return parse_config(
        {
            "repository": str(root),
            "gateways": gateways,
            "http": {"port": port},
            "models": {model: entry},
        }
    )


def ask(port: int, bodies: Sequence[bytes], clients: int) -> Load:
    load: Load = uvloop.run(closed_loop(HOST, port, bodies, clients))
    if load.num_failed:
        raise SystemExit(f"{load.num_failed} requests failed: the figures would mean nothing")
    return load


def forget() -> None:
    serve.get_app_handle("headrace").purge.remote().result(timeout_s=30)
    time.sleep(1.0)  # until the other gateway has heard


if __name__ == "__main__":
    raise SystemExit(main())
