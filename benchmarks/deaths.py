"""SIGKILL to gateways and model replicas while requests are answered: who is left without an answer."""

from __future__ import annotations

import asyncio
import contextlib
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil

from benchmarks.figures import Figure
from benchmarks.way_in import publish
from deployments.load import Load, closed_loop, infer_request
from deployments.ports import free_ports
from deployments.serving import serving
from headrace.config import parse_config

HOST = "127.0.0.1"
INLINE, FAR = "double", "far"
CLIENTS = 16
REQUESTS = 2000  # around each kill
PATIENCE_S = 60.0
# What the command line of a process of each kind holds.
KINDS = {INLINE: "headrace:Gateway", FAR: f"headrace:{FAR}:1:Model"}


def figures(kills: int) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        for name in KINDS:
            publish(Path(folder), name)
        loads, back_s = _measure(Path(folder), kills)
    yield Figure("processes killed under load", kills, "kills", f">= {kills}")
    yield Figure("requests meanwhile", sum(len(load.replies) for load in loads), "requests")
    yield Figure("of these, without an answer", sum(load.num_failed for load in loads), "requests", "== 0")
    yield Figure("slowest answer", max(load.percentile_ms(100) for load in loads), "ms")
    yield Figure("a new process after, longest", max(back_s), "s", "<= 10")


def _measure(root: Path, kills: int) -> tuple[list[Load], list[float]]:
    (port,) = free_ports(1)
    config = parse_config(
        {
            "repository": str(root),
            "http": {"port": port},
            "cache": {"enabled": False},
            "models": {INLINE: {}, FAR: {"placement": "replicas", "replicas": 2}},
        }
    )
    rng = random.Random(3)
    loads: list[Load] = []
    back_s: list[float] = []
    with serving(config):
        for number in range(kills):
            model = list(KINDS)[number % 2]
            victims = _processes(KINDS[model])
            load, killed_at = asyncio.run(_kill_in_the_middle(port, model, rng.choice(victims), rng))
            loads.append(load)
            while len(_processes(KINDS[model])) < len(victims):
                if time.monotonic() - killed_at > PATIENCE_S:
                    raise SystemExit(f"no new {KINDS[model]} within {PATIENCE_S:g} s")
                time.sleep(0.05)
            back_s.append(time.monotonic() - killed_at)
            time.sleep(1.0)  # HAProxy sees it twice before it sends anything
    return loads, back_s


async def _kill_in_the_middle(
    port: int, model: str, victim: psutil.Process, rng: random.Random
) -> tuple[Load, float]:
    x = np.linspace(0, 1, 16, dtype=np.float32).reshape(1, 16)
    requests = [infer_request(HOST, model, {"x": x + number}) for number in range(REQUESTS)]
    load = asyncio.create_task(closed_loop(HOST, port, requests, CLIENTS))
    await asyncio.sleep(rng.uniform(0.2, 0.6))
    victim.kill()
    killed_at = time.monotonic()
    return await load, killed_at


def _processes(words: str) -> list[psutil.Process]:
    """Those below this process: others may run a server here, too."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if words in " ".join(process.cmdline()):
                found.append(process)
    return found
