"""Replicas come and go with the work, against the real server."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks import timed
from deployments.load import Load, closed_loop, infer_request
from deployments.open_loop import OpenLoad, open_loop
from deployments.ports import free_ports
from deployments.serving import Server, serving
from engines.artifact import Repository
from headrace.config import parse_config
from optimize.publish import publish

PER_REPLICA = 40.0  # rows a second in full batches
FAR = {"run_code": True, "placement": "replicas"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root: Path = tmp_path_factory.mktemp("models")
    repository = Repository(root)
    for name in ("grows", "hurries", "sleeps"):
        publish(Path(timed.__file__), repository, name)
    (port,) = free_ports(1)
    config = parse_config(
        {
            "repository": str(root),
            "http": {"port": port},
            "models": {
                "grows": {**FAR, "autoscaling": {"max_replicas": 3, "down_after_s": 3.0}},
                "hurries": {**FAR, "timeout_ms": 600.0, "autoscaling": {"max_replicas": 2}},
                "sleeps": {
                    **FAR,
                    "cache": True,
                    "autoscaling": {
                        "min_replicas": 0,
                        "max_replicas": 2,
                        "down_after_s": 1.0,
                        "sleep_after_s": 2.0,
                    },
                },
            },
        }
    )
    with serving(config) as running:
        yield running


def num_running(model: str) -> int:
    from ray import serve

    states = serve.status().applications[f"headrace:{model}:1"].deployments["Model"].replica_states
    return int(sum(count for state, count in states.items() if state == "RUNNING"))


def until(is_so: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if is_so():
            return True
        time.sleep(0.2)
    return False


def request(model: str, value: float) -> bytes:
    return infer_request("test", model, {"x": np.full((1, 4), value, np.float32)})


def ask(server: Server, model: str, value: float) -> Load:
    return asyncio.run(closed_loop("127.0.0.1", server.config.http.port, [request(model, value)], 1))


def test_replicas_come_with_the_load_and_go_after_it(server: Server) -> None:
    seconds = 20
    rate = 2 * PER_REPLICA
    requests = [request("grows", 1.0)] * int(seconds * rate)
    loads: list[OpenLoad] = []
    caller = threading.Thread(
        target=lambda: loads.append(
            asyncio.run(open_loop("127.0.0.1", server.config.http.port, requests, rate))
        )
    )
    assert num_running("grows") == 1
    caller.start()
    assert until(lambda: num_running("grows") == 3, seconds)
    caller.join()
    assert loads[0].num_failed == 0
    assert until(lambda: num_running("grows") == 1, 20)


def test_asleep_it_still_answers_what_it_remembers_and_wakes_for_the_rest(server: Server) -> None:
    assert ask(server, "sleeps", 1.0).num_failed == 0  # one was started, though none need be there
    assert until(lambda: num_running("sleeps") == 0, 30)
    remembered = ask(server, "sleeps", 1.0)
    assert remembered.num_failed == 0
    assert remembered.tiers()[0] in ("memory", "redis")
    time.sleep(1.0)
    assert num_running("sleeps") == 0
    woken = ask(server, "sleeps", 2.0)
    assert woken.num_failed == 0
    assert woken.seconds > 1.0  # it waited for the start
    assert until(lambda: num_running("sleeps") == 1, 3)


def test_what_is_refused_at_the_door_is_asked_for_too(server: Server) -> None:
    """HAProxy refuses most of a flood, and tells the gateways of it."""
    from ray import serve

    rate, seconds = 10 * PER_REPLICA, 8
    flood = [request("hurries", 1.0)] * int(rate * seconds)
    asked: list[float] = []

    async def watched() -> OpenLoad:
        load = asyncio.create_task(open_loop("127.0.0.1", server.config.http.port, flood, rate))
        for _ in range(seconds - 1):
            await asyncio.sleep(1.0)
            told = await asyncio.to_thread(lambda: gateways.broadcast("record_autoscaling_stats").results())
            asked.append(sum(numbers["rows_per_s headrace:hurries:1"] for numbers in told))
        return await load

    gateways = serve.get_app_handle("headrace")
    load = asyncio.run(watched())
    refused_early = int(((load.status == 429) & (load.latency < 0.01)).sum())
    assert refused_early > 0.1 * len(flood)
    assert max(asked) > 0.6 * rate
