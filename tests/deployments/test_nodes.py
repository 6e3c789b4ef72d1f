"""Many nodes: what is refused, where replicas go, and nodes that are killed, drained and restarted under
load, while another Ray job calls by handle.

All on one cluster of three nodes, with token authentication, and its state in a Redis of its own. The tests
follow each other: each leaves the cluster as the next one finds it.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import yaml

from deployments.load import infer_request
from deployments.open_loop import OpenLoad, open_loop
from deployments.ports import free_ports
from headrace.config import parse_config
from tests.cache.valkeys import valkey
from tests.nodes import Node, Nodes, job_summary
from tests.onnx_models import publish_all
from tests.waiting import wait_until

pytestmark = pytest.mark.serve
GATEWAY, MODEL = "ServeReplica:headrace:Gateway", "ServeReplica:headrace:far:1:Model"
MODELS = ("double", "far")
RATE = 20.0  # requests/s to each model by way of each node
HEAD_AWAY_S = 3.0
X = np.ones((1, 3), np.float32)


@dataclass
class Many:
    nodes: Nodes
    workers: list[Node]
    folder: Path
    document: dict[str, Any]
    job: subprocess.Popen[str] = field(init=False)

    def file(self, name: str = "headrace", **models: dict[str, Any]) -> str:
        """The configuration with these values of models changed."""
        document = {**self.document, "models": {**self.document["models"]}}
        for model, values in models.items():
            document["models"][model] = {**document["models"].get(model, {}), **values}
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(document))
        return str(path)

    def deploy(self, file: str) -> subprocess.CompletedProcess[str]:
        return self.nodes.headrace("serve", file, "--address", self.nodes.address)

    def all(self) -> list[Node]:
        return [self.nodes.head, *self.workers]

    def settle(self) -> None:
        """Until a gateway is on each node, and two replicas of the model on workers."""
        wait_until(
            lambda: all(len(node.running(GATEWAY)) == 1 for node in self.all()), "a gateway on each node"
        )
        wait_until(lambda: sum(len(node.running(MODEL)) for node in self.workers) == 2, "two replicas")
        wait_until(lambda: self._is_well(), "all replicas run")

    def _is_well(self) -> bool:
        applications = self.nodes.status()["applications"]
        return all(application["status"] == "RUNNING" for application in applications.values())


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Many]:
    folder = tmp_path_factory.mktemp("nodes")
    publish_all(folder / "models")
    port, grpc_port, redis_port = free_ports(3)
    document: dict[str, Any] = {
        "repository": str(folder / "models"),
        "gateways": 3,
        "http": {"host": "0.0.0.0", "port": port},
        "grpc": {"port": grpc_port},
        "cache": {"enabled": False},
        "models": {"double": {}, "far": {"placement": "replicas", "replicas": 2, "num_gpus": 1.0}},
    }
    token = folder / "token"
    token.write_text(secrets.token_hex(32))
    authentication = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    state = {"RAY_REDIS_ADDRESS": f"127.0.0.1:{redis_port}"}
    with (
        valkey(folder / "state", redis_port, "--maxmemory-policy", "noeviction"),
        Nodes(parse_config(document), environment=authentication, head_environment=state) as nodes,
    ):
        nodes.start_head(num_cpus=2)
        yield Many(nodes, [nodes.add(num_cpus=4, num_gpus=1) for _ in range(2)], folder, document)


@pytest.fixture(scope="module")
def deployed(many: Many) -> Iterator[Many]:
    """The same with the models served, and another job that calls them all the time."""
    done = many.deploy(many.file())
    assert done.returncode == 0, done.stderr
    many.settle()
    with many.nodes.other_job(many.workers[0], MODELS, many.folder / "job.log") as many.job:
        yield many


def failed_calls(many: Many) -> list[dict[str, str]]:
    """Of the other job so far."""
    lines = (many.folder / "job.log").read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def load(nodes: list[Node], seconds: float, act: Callable[[], None]) -> dict[str, OpenLoad]:
    """Requests at a constant rate to both models by way of each of these nodes, while something happens."""

    async def ask() -> dict[str, OpenLoad]:
        tasks = {}
        for node in nodes:
            for model in MODELS:
                requests = [infer_request("test", model, {"x": X})] * int(RATE * seconds)
                run = open_loop("127.0.0.1", node.http_port, requests, RATE, connections=8)
                tasks[f"{model} by {node.address}"] = asyncio.create_task(run)
        await asyncio.sleep(1)
        await asyncio.to_thread(act)
        return {name: await task for name, task in tasks.items()}

    return asyncio.run(ask())


def failures(loads: dict[str, OpenLoad]) -> dict[str, list[int]]:
    return {name: one.status[one.status != 200].tolist() for name, one in loads.items() if one.num_failed}


def test_a_driver_without_the_token_is_not_let_in(many: Many) -> None:
    done = many.nodes.headrace("status", "--address", many.nodes.address, RAY_AUTH_TOKEN_PATH="/nowhere")
    assert done.returncode == 1
    assert "does not let us in" in done.stderr
    assert "RAY_AUTH_TOKEN_PATH" in done.stderr


def test_a_replica_that_no_node_could_take_is_refused_before_anything_is_deployed(many: Many) -> None:
    done = many.deploy(many.file("large", far={"num_gpus": 2.0}))
    assert done.returncode == 2
    assert (
        "models.far.num_gpus: a replica asks for 2 GPUs; no node of this cluster has more than 1"
        in done.stderr
    )
    assert "--growing" in done.stderr
    assert many.nodes.status()["applications"] == {}


def test_a_repository_that_nodes_cannot_read_is_refused_before_anything_is_deployed(many: Many) -> None:
    # In each process this path leads elsewhere, as that of a disk does which only this machine has.
    many.document, former = {**many.document, "repository": "/proc/self/cwd/models"}, many.document
    (many.folder / "here").mkdir()
    (many.folder / "here" / "models").symlink_to(many.folder / "models")
    file = many.file("unread")
    many.document = former
    done = many.nodes.headrace("serve", file, "--address", many.nodes.address, cwd=many.folder / "here")
    assert done.returncode == 2
    assert "repository: /proc/self/cwd/models on node 127.0.1." in done.stderr
    assert "a shared volume" in done.stderr


def test_an_address_that_other_nodes_could_not_reach_is_refused(many: Many) -> None:
    many.document, former = {**many.document, "http": {"port": many.document["http"]["port"]}}, many.document
    done = many.deploy(many.file("loopback"))
    many.document = former
    assert done.returncode == 2
    assert "http.host: 127.0.0.1" in done.stderr
    assert "give http.host: 0.0.0.0" in done.stderr


def test_each_node_has_a_gateway_and_each_gpu_its_replica(deployed: Many) -> None:
    assert [len(node.running(GATEWAY)) for node in deployed.all()] == [1, 1, 1]
    assert [len(node.running(MODEL)) for node in deployed.all()] == [0, 1, 1]


def test_every_node_answers_over_http_and_grpc(deployed: Many) -> None:
    assert failures(load(deployed.all(), 1, lambda: None)) == {}
    for node in deployed.all():
        with triton_grpc.InferenceServerClient(f"127.0.0.1:{node.grpc_port}") as client:
            given = triton_grpc.InferInput("x", [1, 3], "FP32").set_data_from_numpy(X)
            for _ in range(6):  # each gateway has its turn
                assert client.infer("far", [given]).as_numpy("y").tolist() == [[2, 2, 2]]


def test_a_node_that_is_killed_costs_no_answer_and_what_is_lost_comes_back_with_another(
    deployed: Many,
) -> None:
    before = len(failed_calls(deployed))
    victim = deployed.workers.pop()
    loads = load(deployed.all(), 12, victim.kill)
    assert failures(loads) == {}
    assert len(failed_calls(deployed)) - before <= 1  # what was under way on the dead gateway
    waits = deployed.nodes.status()["waits"]
    assert waits["headrace"].startswith("another node with 1 CPU free: each may have 1 of these")
    assert waits["headrace:far:1"].startswith(
        "1 GPU on one node; free: 127.0.1.1 0 of 0 GPUs; 127.0.1.2 0 of 1 GPU"
    )
    deployed.workers.append(deployed.nodes.add(num_cpus=4, num_gpus=1))
    deployed.settle()


def test_a_node_that_is_drained_costs_no_answer_and_no_call(deployed: Many) -> None:
    before = len(failed_calls(deployed))
    leaving = deployed.workers.pop()
    new = deployed.nodes.add(num_cpus=4, num_gpus=1)

    def drain() -> None:
        deployed.nodes.drain(leaving)
        wait_until(lambda: not leaving.running(GATEWAY) and not leaving.running(MODEL), "the node is empty")

    loads = load([deployed.nodes.head, deployed.workers[0]], 18, drain)
    assert failures(loads) == {}
    assert len(failed_calls(deployed)) == before
    leaving.kill()
    deployed.workers.append(new)
    deployed.settle()


def test_workers_answer_while_the_head_is_away_and_it_goes_on_where_it_was(deployed: Many) -> None:
    before = len(failed_calls(deployed))

    def restart() -> None:
        deployed.nodes.head.kill()
        time.sleep(HEAD_AWAY_S)
        deployed.nodes.start_head(num_cpus=2)

    loads = load(deployed.workers, 25, restart)
    assert failures(loads) == {}
    assert len(failed_calls(deployed)) - before <= 1
    deployed.settle()
    assert failures(load(deployed.all(), 1, lambda: None)) == {}


def test_after_all_this_a_deployment_says_what_it_waits_for_and_gets_it_from_a_new_node(
    deployed: Many,
) -> None:
    before = len(failed_calls(deployed))
    said = deployed.folder / "said"
    with deployed.nodes.started(said, "serve", deployed.file("more", far={"replicas": 3})) as serving:
        wait_until(
            lambda: "headrace:far:1 waits for 1 GPU on one node; free: " in said.read_text(), "it says so"
        )
        assert serving.poll() is None
        deployed.nodes.add(num_cpus=4, num_gpus=1)
        assert serving.wait(120) == 0, said.read_text()
    applications = deployed.nodes.status()["applications"]
    assert applications["headrace:far:1"]["deployments"]["Model"] == {"RUNNING": 3}
    assert len(failed_calls(deployed)) == before
    told = job_summary(deployed.job)
    assert told["calls"] > 500
    assert told["wrong"] == 0
