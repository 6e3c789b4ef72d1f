"""Eight times the load from one second to the next, and back: how soon there are enough replicas."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
from ray.serve.config import AutoscalingConfig as ServeConfig

from benchmarks import timed
from deployments import app
from deployments.load import infer_request
from deployments.open_loop import OpenLoad, open_loop_at
from deployments.ports import free_ports
from deployments.serving import serving
from engines.artifact import Repository
from headrace.config import Config, parse_config
from headrace.tensors import Array
from optimize.publish import publish

HOST = "127.0.0.1"
MODEL = "timed"
MAX_BATCH = 8
PER_REPLICA = MAX_BATCH / (timed.BASE_S + MAX_BATCH * timed.ROW_S)  # requests a second, in full batches
OBJECTIVE_S = 1.0
MAX_REPLICAS = 8
_POLL_S = 0.2
_WINDOW_S = 1.0  # of the P99 over time
_HERE = ("STARTING", "RUNNING", "STOPPING", "UPDATING", "RECOVERING")  # takes up its share of the cluster


@dataclass(frozen=True, slots=True)
class Profile:
    """Requests a second, for so many seconds each."""

    steps: tuple[tuple[float, float], ...]  # (requests/s, seconds)

    def arrivals(self, seed: int = 0) -> Array:
        """Seconds after the start, a Poisson process in each step."""
        rng = np.random.default_rng(seed)
        found, start = [], 0.0
        for rate, seconds in self.steps:
            gaps = rng.exponential(1 / rate, int(2 * rate * seconds) + 50)
            times = start + np.cumsum(gaps)
            start += seconds
            found.append(times[times < start])
        return np.concatenate(found)


@dataclass(frozen=True, slots=True)
class Seen:
    """The replicas at a moment."""

    at: float  # seconds after the start
    running: int
    here: int  # those that start or end included


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    load: OpenLoad
    seen: list[Seen]

    @property
    def misses(self) -> int:
        """Requests answered after the objective, or not at all."""
        return int(((self.load.latency > OBJECTIVE_S) | (self.load.status != 200)).sum())

    @property
    def replica_s(self) -> float:
        """Seconds that replicas were there, from the start of their process to its end."""
        return sum(
            before.here * (after.at - before.at)
            for before, after in zip(self.seen, self.seen[1:], strict=False)
        )

    def ordered_at(self, since: float, until: float) -> float:
        """When the last of the most replicas of that time was asked for."""
        within = [seen for seen in self.seen if since <= seen.at <= until]
        most = max(seen.here for seen in within)
        return next(seen.at for seen in within if seen.here == most)

    def full_at(self, since: float, until: float) -> float:
        """When the most replicas of that time ran."""
        within = [seen for seen in self.seen if since <= seen.at <= until]
        most = max(seen.running for seen in within)
        return next(seen.at for seen in within if seen.running == most)

    def calm_at(self, since: float, until: float) -> float:
        """From when on the P99 of each second's requests keeps to the objective."""
        calm = since
        for start in np.arange(since, until, _WINDOW_S):
            within = (self.load.intended >= start) & (self.load.intended < start + _WINDOW_S)
            if within.any() and np.percentile(self.load.latency[within], 99) > OBJECTIVE_S:
                calm = float(start) + _WINDOW_S
        return calm


def published(folder: Path) -> None:
    publish(Path(timed.__file__), Repository(folder), MODEL)


def configuration(folder: Path, **entry: object) -> Config:
    (port,) = free_ports(1)
    return parse_config(
        {
            "repository": str(folder),
            "http": {"port": port},
            "cache": {"enabled": False},
            "models": {
                MODEL: {
                    "run_code": True,
                    "placement": "replicas",
                    "batching": {"max_batch": MAX_BATCH},
                    **entry,
                }
            },
        }
    )


def request() -> bytes:
    return infer_request(HOST, MODEL, {"x": np.ones((1, 4), np.float32)})


def run(folder: Path, profile: Profile, serves_own: ServeConfig | None = None) -> Run:
    """One policy through a profile: ours, or Serve's with these settings."""
    scaling = {"max_replicas": MAX_REPLICAS, "objective_ms": 1000 * OBJECTIVE_S}
    config = configuration(folder, autoscaling=scaling)
    times = profile.arrivals()
    with _instead(serves_own), serving(config), _watched() as seen:
        load = asyncio.run(open_loop_at(HOST, config.http.port, [request()] * len(times), times))
    return Run(load, [Seen(moment.at, moment.running, moment.here) for moment in seen])


@contextmanager
def _instead(serves_own: ServeConfig | None) -> Iterator[None]:
    if serves_own is None:
        yield
        return
    with mock.patch.object(app, "replicas_config", return_value=serves_own):
        yield


@contextmanager
def _watched() -> Iterator[list[Seen]]:
    """The replicas from now to the end of the block."""
    from ray import serve

    found: list[Seen] = []
    ended = threading.Event()
    started = time.perf_counter()

    def watch() -> None:
        while not ended.wait(_POLL_S):
            states = serve.status().applications[f"headrace:{MODEL}:1"].deployments["Model"].replica_states
            counts = {str(state): int(count) for state, count in states.items()}
            now = time.perf_counter() - started
            here = sum(counts.get(name, 0) for name in _HERE)
            found.append(Seen(now, counts.get("RUNNING", 0), here))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()
