"""Ten times more requests than can be answered: what is still answered, how late, how soon all is well again.

MiniLM-L6 in FP32, two gateways, no cache. Capacity is a closed loop of 64 clients; all else is an open loop,
latencies counted from the time at which a request was to leave. Once with chat messages, where this client
and HAProxy take over a quarter of two cores to send and refuse ten times the capacity, and once with texts
of some 200 tokens, where the engine has nearly all of them. Then ten thousand requests with callers that
leave, deadlines that pass and inputs that break the engine, and processes killed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import uvloop

from benchmarks import chaos, deaths, minilm
from benchmarks.figures import Figure, arguments, finish, middle
from benchmarks.minilm import MODEL
from benchmarks.shares import Shares
from deployments.load import closed_loop, infer_request
from deployments.open_loop import OpenLoad, open_loop
from deployments.ports import free_ports
from deployments.serving import Server, serving
from examples.minilm.data import chat, tokenize
from headrace.config import parse_config

HOST = "127.0.0.1"
CLIENTS = 64
CALM, FLOOD = 0.8, 10.0  # of the capacity
PATIENCE = 1.3  # of the P99 at 80% load: what callers wait under overload
PARTS = ("chat", "documents", "chaos", "deaths")
DOCUMENT = 15  # messages in one text


@dataclass(frozen=True, slots=True)
class Plan:
    requests: Mapping[str, int]  # in a closed loop
    calm_s: float
    flood_s: float
    after_s: float
    chaos: int  # requests
    deaths: int  # kills


FULL = Plan(
    requests={"chat": 3000, "documents": 400}, calm_s=30, flood_s=15, after_s=12, chaos=10_000, deaths=10
)
QUICK = Plan(requests={"chat": 300, "documents": 80}, calm_s=3, flood_s=2, after_s=6, chaos=500, deaths=2)


def main() -> int:
    options = arguments(__doc__, parts=PARTS)
    parts = options.only or PARTS
    plan = QUICK if options.quick else FULL
    figures: list[Figure] = []
    if "chaos" in parts:
        figures += chaos.figures(plan.chaos)
    if "deaths" in parts:
        figures += deaths.figures(plan.deaths)
    for kind in plan.requests:
        if kind in parts:
            with tempfile.TemporaryDirectory() as folder:
                figures += flood(Path(folder), plan, kind)
    return finish(figures, options.json)


def texts(kind: str, count: int) -> list[str]:
    """Chat messages, or texts made of several."""
    if kind == "chat":
        return chat(count)
    messages = chat(count * DOCUMENT)
    return [" ".join(messages[number::count]) for number in range(count)]


def flood(root: Path, plan: Plan, kind: str) -> Iterator[Figure]:
    for figure in _flood_figures(root, plan, kind):
        yield replace(figure, name=f"{kind}: {figure.name}")


def _flood_figures(root: Path, plan: Plan, kind: str) -> Iterator[Figure]:
    minilm.publish(root)
    bodies = [infer_request(HOST, MODEL, tokenize(text)) for text in texts(kind, plan.requests[kind])]
    (port,) = free_ports(1)
    config = parse_config(
        {
            "repository": str(root),
            "http": {"port": port},
            "cache": {"enabled": False},
            "models": {MODEL: {}},
        }
    )
    with serving(config) as server:
        capacity = middle([_closed(port, bodies) for _ in range(4)][1:])
        calm = _open(port, bodies, CALM * capacity, plan.calm_s)
        yield Figure("capacity, 64 clients", capacity, "requests/s")
        yield Figure("at 80% load, failed", calm.num_failed, "requests", "== 0")
        yield Figure("at 80% load, P50", calm.percentile_ms(50), "ms")
        yield Figure("at 80% load, P99", calm.percentile_ms(99), "ms")
        patience_ms = PATIENCE * calm.percentile_ms(99)
        _wait_at_most(server, patience_ms)
        _open(port, bodies, CALM / 2 * capacity, plan.after_s / 2)  # the new gateways warm up
        flooded, after, shares = uvloop.run(_flood(port, bodies, capacity, plan))
        yield from _told(flooded, after, capacity, calm.percentile_ms(99), patience_ms)
        for kind, share in shares.items():
            yield Figure(f"at 10 times, {kind}", share, "of all CPUs")


def _told(
    flooded: OpenLoad, after: OpenLoad, capacity: float, calm_ms: float, patience_ms: float
) -> Iterator[Figure]:
    is_good = flooded.status == 200
    is_refused = flooded.status == 429
    seconds = float(flooded.intended[-1])
    yield Figure("requests' own timeout", patience_ms, "ms")
    yield Figure("offered at 10 times", flooded.per_second / capacity, "of capacity")
    yield Figure("goodput at 10 times", is_good.sum() / seconds / capacity, "of capacity", ">= 0.9")
    p99 = flooded.percentile_ms(99)
    yield Figure("P99 of the accepted / at 80% load", p99 / calm_ms, "ratio", "<= 1.5")
    refusals = flooded.latency[is_refused] * 1000
    yield Figure("refused with 429", is_refused.sum() / len(is_refused), "share")
    yield Figure("refusals, P50", float(np.percentile(refusals, 50)), "ms")
    yield Figure("refusals, P99", float(np.percentile(refusals, 99)), "ms", "<= 20")
    others = ~(is_good | is_refused)
    yield Figure("neither answered nor refused", others.sum() / len(others), "share")
    yield Figure("the client's own delay, P99", flooded.late_ms(99), "ms")
    yield Figure("well again after", recovery_s(after, 1.5 * calm_ms / 1000), "s", "<= 5")


def recovery_s(after: OpenLoad, limit_s: float) -> float:
    """When the last second ended of which a request failed, or one in a hundred was slower than the limit."""
    end = 0.0
    for second in range(int(after.intended[-1]) + 1):
        chosen = (after.intended >= second) & (after.intended < second + 1)
        if not chosen.any():
            continue
        bad = (after.status[chosen] != 200) | (after.latency[chosen] > limit_s)
        if bad.mean() > 0.01:
            end = second + 1.0
    return end


async def _flood(
    port: int, bodies: Sequence[bytes], capacity: float, plan: Plan
) -> tuple[OpenLoad, OpenLoad, Mapping[str, float]]:
    shares = Shares()
    flooded = await open_loop(
        HOST, port, _repeated(bodies, FLOOD * capacity * plan.flood_s), FLOOD * capacity
    )
    used = shares.ended()
    after = await open_loop(HOST, port, _repeated(bodies, CALM * capacity * plan.after_s), CALM * capacity)
    return flooded, after, used


def _open(port: int, bodies: Sequence[bytes], rate: float, seconds: float) -> OpenLoad:
    load: OpenLoad = uvloop.run(open_loop(HOST, port, _repeated(bodies, rate * seconds), rate))
    return load


def _closed(port: int, bodies: Sequence[bytes]) -> float:
    load = uvloop.run(closed_loop(HOST, port, bodies, CLIENTS))
    if load.num_failed:
        raise SystemExit(f"{load.num_failed} requests failed: the capacity would mean nothing")
    return float(load.per_second)


def _repeated(bodies: Sequence[bytes], count: float) -> list[bytes]:
    return [bodies[number % len(bodies)] for number in range(int(count))]


def _wait_at_most(server: Server, timeout_ms: float) -> None:
    """Give requests that bring no timeout this one."""
    (entry,) = server.config.models.values()
    models = {MODEL: entry.model_copy(update={"timeout_ms": timeout_ms})}
    server.update(server.config.model_copy(update={"models": models}))


if __name__ == "__main__":
    raise SystemExit(main())
