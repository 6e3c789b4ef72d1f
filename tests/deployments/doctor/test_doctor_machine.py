"""Engines, GPUs, ports, clock and Ray clusters, as they are here."""

from __future__ import annotations

import os
import socket

import pytest

from deployments.doctor import clock, engines_here, gpu, network, ray_cluster
from deployments.ports import free_ports
from headrace.config import parse_config
from tests.conftest import Running


def test_the_engine_that_models_run_on_computes_here() -> None:
    found = {check.name: check for check in engines_here.checks()}
    assert found["engine onnxruntime"].state == "ok"


def test_an_engine_that_does_not_work_is_bad_only_where_nothing_works_without_it() -> None:
    assert engines_here.engine("onnxruntime", "it died by signal SIGILL").state == "bad"
    assert engines_here.engine("onnxruntime", None).state == "bad"
    assert engines_here.engine("openvino", "it died by signal SIGILL").state == "warn"
    assert engines_here.engine("openvino", None).state == "ok"


def test_no_gpu_is_bad_only_where_one_is_asked_for() -> None:
    assert gpu.none([], "no driver").state == "ok"
    found = gpu.none(["minilm"], "no driver")
    assert found.state == "bad"
    assert "minilm asks for GPUs" in found.advice


def test_gpus_are_told_or_that_there_is_none() -> None:
    asked = parse_config({"models": {"m": {"placement": "replicas", "num_gpus": 1.0}}})
    found = list(gpu.checks(asked))
    assert found
    assert all(check.found for check in found)


def test_a_port_is_told_with_who_holds_it() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        http = taken.getsockname()[1]
        (grpc,) = free_ports(1)
        asked = parse_config({"http": {"port": http}, "grpc": {"port": grpc}, "models": {"m": {}}})
        first, second = network.checks(asked)
    assert first.state == "bad"
    assert f"process {os.getpid()}" in first.found
    assert (second.name, second.state) == (f"port {grpc}", "ok")


def test_a_port_that_a_server_of_ours_holds_is_no_error() -> None:
    assert network.port(8000, "http.port", "haproxy (process 1)").state == "warn"


@pytest.mark.parametrize(("state", "told"), [(0, "ok"), (1, "ok"), (5, "warn"), (None, "ok")])
def test_the_clock_is_as_the_kernel_says(state: int | None, told: str) -> None:
    assert clock.clock(state, 1500).state == told
    assert "within 1.50 ms" in clock.clock(0, 1500).found


def test_this_kernel_is_asked() -> None:
    (found,) = clock.checks()
    assert found.name == "clock"


def test_a_running_cluster_tells_its_release(running: Running) -> None:
    port = running.server.ray_address.rpartition(":")[2]
    found = [check for check in ray_cluster.checks() if check.name.endswith(f":{port}")]
    assert [check.state for check in found] == ["ok"]


def test_a_cluster_of_another_release_cannot_be_joined(running: Running) -> None:
    found = ray_cluster.cluster(running.server.ray_address, "1.0.0")
    assert found.state == "warn"
    assert "pip" not in found.found
    assert "1.0.0 is installed here" in found.advice
