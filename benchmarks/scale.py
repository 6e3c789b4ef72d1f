"""What many replicas cost the controller, the gateways and Redis: python -m benchmarks.scale

Serve's own code is called in this process, without a cluster: reports are made, sent through its codec and
taken in, and its control loop asks our policy. CPU seconds of this process count, not the clock's.
"""

from __future__ import annotations

import asyncio
import pickle
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np
from ray.serve._private import autoscaling_metrics_codec as codec
from ray.serve._private import autoscaling_state
from ray.serve._private.common import (
    RUNNING_REQUESTS_KEY,
    DeploymentHandleSource,
    DeploymentID,
    HandleMetricReport,
    ReplicaID,
    ReplicaMetricReport,
    RunningReplicaInfo,
    TimeStampedValue,
)
from ray.serve._private.utils import compress_metric_report, decompress_metric_report

from autoscaling.policy import Goals
from autoscaling.reports import Cost, GatewayReport, ReplicaReport
from benchmarks.figures import Figure, arguments, finish
from cache.embedded import EmbeddedServer
from cache.redis import RedisCache
from deployments import autoscale
from headrace.config import AutoscalingConfig

SIZES = (1, 100, 1_000, 10_000)
TICK_S = 0.1  # of Serve's control loop
POINTS = 5  # of each number in a report
COST = Cost(0.1, 0.0125, 8)
DEPLOYMENT = DeploymentID("Model", "headrace:m:1")
_ENOUGH_S = 0.5  # of CPU, that is measured for


def main() -> int:
    options = arguments(__doc__)
    sizes = SIZES[:2] if options.quick else SIZES
    figures = [figure for size in sizes for figure in of_controller(size)]
    figures += of_redis(2_000 if options.quick else 20_000)
    return finish(figures, options.json)


def of_controller(size: int) -> Iterator[Figure]:
    """One model version with so many replicas, and one gateway."""
    names = [ReplicaID(f"{number:08x}", DEPLOYMENT) for number in range(size)]
    reports = [_replica_report(name) for name in names]
    sent = [compress_metric_report(report) for report in reports[:100]]
    state = _state(size)
    taken_s = _cpu_s(lambda: _take(state, sent)) / len(sent)
    for report in reports:
        state.record_request_metrics_for_replica(report)
    state.update_running_replica_ids(names)
    handle = _handle_report(names)
    columnar = codec.encode(handle)
    made_s = _cpu_s(lambda: codec.encode(handle))
    heard_s = _cpu_s(lambda: codec.decode_handle_flat(columnar))
    state.record_columnar_metrics_for_handle(codec.decode_handle_flat(columnar))
    gateway = GatewayReport(time.time(), 20.0 * size, 20.0 * size, 0.0, 0.0, 0.0, 0.0)
    with mock.patch.dict(autoscale._gateways, {DEPLOYMENT.app_name: [gateway]}):
        loop_s = _cpu_s(lambda: state.get_decision_num_replicas(size))
        ours_s = _cpu_s(lambda: autoscale.replicas(state.get_autoscaling_context(size), _goals(size), COST))
    ids_s = _cpu_s(lambda: state.update_running_replica_ids(names))
    interval_s = autoscale.interval_s(size)
    table = pickle.dumps([_running(name) for name in names])
    of = f"{size:,} replicas: "
    yield Figure(of + "a replica's report", len(sent[0]), "bytes")
    yield Figure(of + "taking it in", 1e6 * taken_s, "us")
    yield Figure(of + "seconds between a replica's reports", interval_s, "s")
    yield Figure(of + "taking all of them in", taken_s * size / interval_s, "of a core")
    yield Figure(of + "a gateway's handle's report", len(columnar), "bytes")
    yield Figure(of + "making it, in the gateway", 1e3 * made_s, "ms")
    yield Figure(of + "taking it in", 1e3 * heard_s, "ms")
    yield Figure(of + "our policy, once", 1e3 * ours_s, "ms")
    yield Figure(of + "one pass of Serve's loop with it", 1e3 * (loop_s + ids_s), "ms")
    yield Figure(of + "that ten times a second", (loop_s + ids_s) / TICK_S, "of a core")
    yield Figure(of + "the table of replicas, to each gateway", len(table), "bytes")


def of_redis(count: int) -> Iterator[Figure]:
    """One Valkey on this machine, asked by one process, 256 at a time."""
    with EmbeddedServer(64) as server:
        per_second, cpu_s = asyncio.run(_asked(server.start(), count))
    yield Figure("one Valkey, asked by one process", per_second, "look-ups/s")
    yield Figure("a look-up, of the asking process", 1e6 * cpu_s, "us of CPU")


async def _asked(url: str, count: int) -> tuple[float, float]:
    cache = RedisCache(url, prefix="scale:", timeout_s=5.0, on_fault=lambda _: None)
    outputs = {"y": np.ones((1, 384), np.float32)}
    keys = [number.to_bytes(32, "big") for number in range(256)]
    for key in keys:
        await cache.put(key, outputs, 600.0)
    numbers = iter(range(count))

    async def ask() -> None:
        for number in numbers:
            assert await cache.get(keys[number % len(keys)]) is not None

    started, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(ask() for _ in range(256)))
    seconds, cpu_s = time.perf_counter() - started, time.process_time() - cpu
    await cache.close()
    return count / seconds, cpu_s / count


def _state(size: int) -> Any:
    """Serve's state of one deployment that our policy scales."""
    scaling = AutoscalingConfig(max_replicas=max(2, size))
    info = mock.Mock(target_capacity=None, target_capacity_direction=None)  # what is read of a deployment
    info.deployment_config.autoscaling_config = autoscale.replicas_config(scaling, COST)
    info.deployment_config.gang_scheduling_config = None
    state = autoscaling_state.DeploymentAutoscalingState(DEPLOYMENT)
    state.register(info, size)
    return state


def _goals(size: int) -> Goals:
    return autoscale.goals_of(AutoscalingConfig(max_replicas=max(2, size)))


def _take(state: Any, messages: list[bytes]) -> None:
    for message in messages:
        state.record_request_metrics_for_replica(decompress_metric_report(message))


def _replica_report(name: ReplicaID) -> Any:
    now = time.time()
    numbers = ReplicaReport(now, 0.1, 0.01, 0.1, 0.0125, 8.0, 1.0, 1.0, 1.5).numbers()
    metrics = {key: _series(value, now) for key, value in numbers.items()}
    return ReplicaMetricReport(name, metrics, now)


def _handle_report(names: list[ReplicaID]) -> Any:
    now = time.time()
    running = {name.to_full_id_str(): _series(2.0, now) for name in names}
    source = DeploymentHandleSource.REPLICA
    args = DEPLOYMENT, "handle", "actor", source, _series(0.0, now), {RUNNING_REQUESTS_KEY: running}, now
    return HandleMetricReport(*args)


def _series(value: float, now: float) -> list[Any]:
    return [TimeStampedValue(now - 0.3 * step, value) for step in reversed(range(POINTS))]


def _running(name: ReplicaID) -> Any:
    return RunningReplicaInfo(name, "n" * 56, "10.0.0.1", None, f"SERVE_REPLICA::{name.unique_id}", 8192)


def _cpu_s(act: Callable[[], Any]) -> float:
    """CPU seconds of one call."""
    act()
    count, started = 0, time.process_time()
    while (seconds := time.process_time() - started) < _ENOUGH_S:
        act()
        count += 1
    return seconds / max(count, 1)


if __name__ == "__main__":
    sys.exit(main())
