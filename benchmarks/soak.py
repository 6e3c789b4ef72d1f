"""A server under load of all kinds for a long time: does its memory grow, do its metrics' labels?"""

from __future__ import annotations

import asyncio
import re
import time
import urllib.request
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import psutil

from deployments.load import infer_request
from deployments.open_loop import open_loop
from deployments.serving import Server

_LOOK_S = 5.0
_PIECE_S = 10.0
_WARM_UP = 0.25  # of the time: until pools, caches and allocators have what they keep
_SERIES = re.compile(r"^(ray_headrace_[a-z_]+\{[^}]*\})", re.MULTILINE)
_LABEL = re.compile(r'[a-zA-Z_]+="[^"]*"')
_OK = 200


@dataclass(frozen=True, slots=True)
class Soaked:
    """What was seen."""

    requests: int
    unexpected: int  # answers of another status than the request deserves
    mib_per_minute: Mapping[str, float]  # by process: its kind and number
    labels: int  # values of labels of our metrics, after the warm-up
    came: tuple[str, ...]  # those that came since
    ended: int  # processes that were there after the warm-up and are not at the end
    series: int  # at the end

    @property
    def steepest(self) -> tuple[str, float]:
        return max(self.mib_per_minute.items(), key=lambda entry: entry[1])


def requests(models: Mapping[str, int], count: int, seed: int) -> tuple[list[bytes], list[int]]:
    """Requests of many shapes, some asked before, some that are mistakes; and the status of each answer.

    `models` are names of models that take rows x of any length, and how many of the lengths are used.
    """
    rng = np.random.default_rng(seed)
    bodies, expected = [], []
    for number in range(count):
        name = list(models)[number % len(models)]
        length = int(rng.integers(1, models[name] + 1))
        rows = int(rng.integers(1, 5))
        x = rng.integers(0, 50, (rows, length)).astype(np.float32)
        kind = number % 20
        if kind == 0:
            bodies.append(infer_request("soak", f"made-up-{seed}-{number}", {"x": x}))
            expected.append(404)
        elif kind == 1:
            bodies.append(infer_request("soak", name, {"x": x}, version=f"made-up-{seed}-{number}"))
            expected.append(404)
        elif kind == 2:
            bodies.append(infer_request("soak", name, {f"wrong_{seed}_{number}": x}))
            expected.append(400)
        else:
            bodies.append(infer_request("soak", name, {"x": x}))
            expected.append(_OK)
    return bodies, expected


def soak(server: Server, models: Mapping[str, int], seconds: float, rate_per_s: float) -> Soaked:
    """Load at a constant mean rate; somebody looks at the figures every second, Prometheus every five."""
    memory: dict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)
    began, sent, unexpected, seed = time.monotonic(), 0, 0, 0
    first: set[str] = set()
    port = server.config.http.port

    async def look() -> None:
        while True:
            await asyncio.to_thread(_read, f"http://127.0.0.1:{port}/v2/figures")
            await asyncio.sleep(1.0)

    async def piece(bodies: Sequence[bytes], rate: float) -> list[int]:
        looking = asyncio.create_task(look())
        try:
            load = await open_loop("127.0.0.1", port, bodies, rate, seed=seed, connections=16)
            return [int(status) for status in load.status]
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    while (now_s := time.monotonic() - began) < seconds:
        bodies, expected = requests(models, int(rate_per_s * _PIECE_S), seed)
        found = asyncio.run(piece(bodies, rate_per_s))
        sent += len(found)
        unexpected += sum(one != other for one, other in zip(found, expected, strict=True))
        for process, mib in _resident():
            memory[process].append((now_s / 60, mib))
        if not first and now_s > seconds * _WARM_UP:
            first = labels(server)
        seed += 1
    slopes = {
        f"{kind} {pid}": slope([point for point in points if point[0] * 60 > seconds * _WARM_UP])
        for (kind, pid), points in memory.items()
    }
    there = {process for process, _ in _resident()}
    ended = sum(
        process not in there and points[-1][0] * 60 > seconds * _WARM_UP for process, points in memory.items()
    )
    came = tuple(sorted(labels(server) - first))
    return Soaked(sent, unexpected, slopes, len(first), came, ended, len(series(server)))


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The median of the slopes between all pairs of points (Theil, 1950): one jump does not tilt it."""
    pairs = [
        (b[1] - a[1]) / (b[0] - a[0]) for at, a in enumerate(points) for b in points[at + 1 :] if b[0] > a[0]
    ]
    return float(np.median(pairs)) if pairs else 0.0


def series(server: Server) -> set[str]:
    """Our series on Ray's Prometheus port."""
    return set(_SERIES.findall(_read(server.metrics_url).decode()))


def labels(server: Server) -> set[str]:
    """What labels are set to in them. A rare outcome makes a series late; a label that follows what callers
    send makes values without end."""
    return {label for one in series(server) for label in _LABEL.findall(one)}


def _read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=30) as response:
        told: bytes = response.read()
    return told


def _resident() -> list[tuple[tuple[str, int], float]]:
    """Of each process of the server: Serve's replicas, the controller, HAProxy, Redis. MiB."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            command = " ".join(process.cmdline())
            mib = process.memory_info().rss / 2**20
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        for word, kind in _KINDS.items():
            if word in command:
                found.append(((kind, process.pid), mib))
                break
    return found


_KINDS = {
    "headrace:Gateway": "gateway",
    ":Model": "replica",
    ":Monitor": "monitor",
    "ServeController": "controller",
    "haproxy": "haproxy",
    "dashboard/agent.py": "ray's agent",
    "valkey": "cache",
    "redis-server": "cache",
}
