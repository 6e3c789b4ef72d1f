"""Eight times the load from one second to the next, and back: how soon there are enough replicas."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from ray.serve.config import AutoscalingConfig as ServeConfig

from autoscaling.outcome import Outcome
from benchmarks import timed
from benchmarks.replay import Replayed, replayed
from deployments import app
from deployments.load import infer_request
from deployments.ports import free_ports
from deployments.serving import serving
from engines.artifact import Repository
from headrace.config import Config, parse_config
from headrace.tensors import Array
from optimize.publish import publish

HOST = "127.0.0.1"
MODEL = "timed"
APPLICATION = f"headrace:{MODEL}:1"
MAX_BATCH = 8
PER_REPLICA = MAX_BATCH / (timed.BASE_S + MAX_BATCH * timed.ROW_S)  # requests a second, in full batches
OBJECTIVE_S = 1.0
MAX_REPLICAS = 8
_SETTLES_S = 3.0
_CALM_S = 10.0
_MAX_QUEUE = 100_000  # nothing is refused: each policy gets all of it


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
class Run:
    """One policy through a profile, and what came of it."""

    replayed: Replayed
    outcome: Outcome

    def raised_at(self, since: float) -> float:
        """When more replicas than then were asked for."""
        before = self.replayed.watch.at(since).wanted
        return next(look.at for look in self.replayed.watch.looks if look.at > since and look.wanted > before)

    def full_at(self, since: float, until: float) -> float:
        """When the most replicas of that time ran."""
        within = [look for look in self.replayed.watch.looks if since <= look.at <= until]
        most = max(look.running for look in within)
        return next(look.at for look in within if look.running == most)

    def calm_at(self, since: float, until: float) -> float:
        """From when on the P99 of ten seconds' requests keeps to the objective; infinite if it never does."""
        times, latency = self.replayed.load.intended, self.outcome.latency
        for start in np.arange(since, until - _CALM_S, 0.5):
            within = latency[(times >= start) & (times < start + _CALM_S)]
            if np.quantile(np.nan_to_num(within, nan=np.inf), 0.99) <= OBJECTIVE_S:
                return float(start)
        return math.inf


def published(folder: Path) -> None:
    publish(Path(timed.__file__), Repository(folder), MODEL)


def configuration(folder: Path, **entry: Any) -> Config:
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
                    "batching": {"max_batch": MAX_BATCH, "max_queue": _MAX_QUEUE},
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
    with _instead(serves_own), serving(config):
        time.sleep(_SETTLES_S)
        found = replayed(HOST, config.http.port, APPLICATION, [request()] * len(times), times)
    return Run(found, found.outcome("ours" if serves_own is None else "Serve's", OBJECTIVE_S))


def start_s(folder: Path) -> float:
    """What it takes until all replicas run, when all but the first are asked for at once."""
    config = configuration(folder, replicas=MAX_REPLICAS)  # as many as there must be room for
    entry = config.models[MODEL].model_copy(update={"replicas": 1})
    with serving(config) as server:
        server.update(config.model_copy(update={"models": {MODEL: entry}}))
        time.sleep(_SETTLES_S)
        started = time.perf_counter()
        server.update(config)
        return time.perf_counter() - started


@contextmanager
def _instead(serves_own: ServeConfig | None) -> Iterator[None]:
    if serves_own is None:
        yield
        return
    with mock.patch.object(app, "replicas_config", return_value=serves_own):
        yield
