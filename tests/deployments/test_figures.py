from __future__ import annotations

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from ray import serve

from deployments.asking import get
from deployments.load import infer_request
from deployments.versions import GATEWAY_APP, MONITOR_APP
from monitoring.stages import STAGES
from tests.conftest import Running


def figures(running: Running) -> dict[str, Any]:
    return get(f"http://{running.http}", "/v2/figures", timeout_s=10)


def of(told: dict[str, Any], model: str, version: str) -> dict[str, Any]:
    (found,) = [entry for entry in told["models"] if entry["name"] == model]
    (one,) = [entry for entry in found["versions"] if entry["version"] == version]
    result: dict[str, Any] = one
    return result


def after(running: Running) -> dict[str, Any]:
    """The figures in which all seconds until now are counted."""
    until = time.time()
    while True:
        told = figures(running)
        if told["now"] > until + 1.5:
            return told
        time.sleep(0.2)


def test_every_answer_is_counted_once_with_where_it_came_from(running: Running) -> None:
    bodies = [
        infer_request("test", "counted", {"x": np.full((3, 5), 500.0 + n, np.float32)}) for n in range(40)
    ]
    running.ask(bodies, 4)
    running.ask(bodies, 4)
    told = after(running)
    entry = of(told, "counted", "1")
    assert entry["tiers"]["miss"] == 40
    assert sum(entry["tiers"].values()) == 80
    assert entry["role"] == "stable"
    assert entry["share"] == 1.0
    assert entry["rows_per_s"] > entry["requests_per_s"] > 0
    assert 0 < entry["latency_s"]["p50"] <= entry["latency_s"]["p95"] <= entry["latency_s"]["p99"] < 5
    assert sum(group["batches"] for group in entry["batches"]) > 0
    assert all(0 < group["fill"] <= 1 for group in entry["batches"])
    assert told["gateways"] == 2
    assert told["problems"] == []


@pytest.mark.parametrize("model", ["double", "far"])
def test_stages_add_up_to_the_latency(running: Running, model: str) -> None:
    bodies = [infer_request("test", model, {"x": np.full((2, 6), 900.0 + n, np.float32)}) for n in range(60)]
    running.ask(bodies, 4)
    told = after(running)
    entry = next(each for each in told["models"] if each["name"] == model)["versions"][0]
    stages = {stage["stage"]: stage["mean"] for stage in entry["stages"]}
    assert list(stages) == list(STAGES)
    assert all(seconds >= 0 for seconds in stages.values())
    assert stages["engine"] > 0
    assert stages["decode"] > 0
    assert stages["encode"] > 0


def test_replicas_and_processes_are_told_of(running: Running) -> None:
    told = after(running)
    kinds = {process["kind"] for process in told["processes"]}
    assert {"gateway", "replica", "monitor"} <= kinds
    for process in told["processes"]:
        assert process["memory_bytes"] > 10 << 20
        assert process["cpu"] >= 0
        assert process["gpus"] == []
    far = next(entry for entry in told["models"] if entry["name"] == "far")
    assert far["placement"] == "replicas"
    assert far["versions"][0]["replicas"]["running"] >= 1


def test_what_waits_and_its_age_are_told(running: Running) -> None:
    bodies = [infer_request("test", "slow", {"x": np.full((1, 4), 1.0 + n, np.float32)}) for n in range(200)]
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(running.ask, bodies, 64)
        most = 0
        while not load.done():
            entry = next(each for each in figures(running)["models"] if each["name"] == "slow")
            most = max(most, entry["versions"][0]["waiting_rows"])
            time.sleep(0.3)
    assert most > 0


def test_errors_are_counted_by_kind(running: Running) -> None:
    before = of(after(running), "counted", "1")["errors"]
    running.ask([infer_request("test", "nobody", {"x": np.zeros((1, 2), np.float32)})] * 3)
    running.ask([infer_request("test", "counted", {"wrong": np.zeros((1, 2), np.float32)})] * 3)
    told = after(running)
    assert sum(told["errors"].values()) >= 3
    assert before == {}
    assert sum(of(told, "counted", "1")["errors"].values()) == 3


def test_a_pipeline_is_told_like_a_model(running: Running) -> None:
    running.ask([infer_request("test", "text", {"text": np.array([b"twelve"], object)})] * 3)
    told = after(running)
    (entry,) = [each for each in told["models"] if each["name"] == "text"]
    assert entry["placement"] == "pipeline"
    assert entry["versions"][0]["role"] == "stable"
    assert sum(entry["versions"][0]["tiers"].values()) == 3


def test_what_was_refused_on_its_way_is_an_error_of_the_model(running: Running) -> None:
    gateway = serve.get_app_handle(GATEWAY_APP)
    before = of(after(running), "counted", "1")["errors"].get("overloaded", 0)
    gateway.turned_away.remote("counted", None, 30).result(timeout_s=10)
    assert of(after(running), "counted", "1")["errors"]["overloaded"] == before + 30


def test_a_silent_gateway_is_told_and_takes_nobody_elses_figures(running: Running) -> None:
    def told() -> dict[str, Any]:  # by the monitor itself: HTTP may go to the silent one
        found: dict[str, Any] = json.loads(
            serve.get_app_handle(MONITOR_APP).figures.remote().result(timeout_s=10)
        )
        return found

    def until(problems: list[str]) -> dict[str, Any]:
        latest = time.monotonic() + 20
        while (found := told())["problems"] != problems:
            assert time.monotonic() < latest, found["problems"]
            time.sleep(0.2)
        return found

    (silent, other) = [each for each in until([])["processes"] if each["kind"] == "gateway"]
    os.kill(silent["pid"], signal.SIGSTOP)
    try:
        found = until(["a gateway does not answer"])
        pids = {each["pid"] for each in found["processes"]}
        assert other["pid"] in pids
        assert silent["pid"] not in pids
        assert {"gateway", "replica", "monitor"} <= {each["kind"] for each in found["processes"]}
    finally:
        os.kill(silent["pid"], signal.SIGCONT)
    assert silent["pid"] in {each["pid"] for each in until([])["processes"]}
