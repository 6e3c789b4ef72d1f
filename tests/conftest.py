"""One real server for all tests here: Ray, HAProxy, Valkey, ONNX Runtime."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from cache.embedded import EmbeddedServer
from deployments.load import Load, closed_loop, infer_request
from deployments.ports import free_ports
from deployments.serving import Server, serving
from engines.artifact import Repository
from examples.minilm import graph
from headrace.config import parse_config
from optimize.publish import publish
from tests import letters
from tests.onnx_models import SAME, publish_all, publish_same

BODY_TIMEOUT_S = 1.5
REMEMBERED = {"cache": True, "cache_shared": "always"}  # these models take less than Redis does


def publish_minilm(repository: Repository, folder: Path) -> None:
    """The real encoder in FP32, as the main job publishes it."""
    repository.publish(
        "minilm",
        "1",
        {"model.onnx": graph.write(folder / ".minilm.onnx")},
        graph="model.onnx",
        signature=graph.SIGNATURE,
        grouping="nearest",
    )


@dataclass(frozen=True, slots=True)
class Running:
    server: Server
    cache_server: EmbeddedServer

    @property
    def port(self) -> int:
        return self.server.config.http.port

    @property
    def http(self) -> str:
        """What tritonclient.http connects to."""
        return f"127.0.0.1:{self.port}"

    @property
    def grpc(self) -> str:
        """What tritonclient.grpc connects to."""
        assert self.server.config.grpc is not None
        return f"127.0.0.1:{self.server.config.grpc.port}"

    def ask(self, requests: list[bytes], concurrency: int = 1) -> Load:
        return asyncio.run(closed_loop("127.0.0.1", self.port, requests, concurrency))

    def ask_model(self, model: str, x: np.ndarray, version: str | None = None) -> Load:
        return self.ask([infer_request("test", model, {"x": x}, version)])


TENANT_HEADER = "x-tenant"


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    root: Path = tmp_path_factory.mktemp("models")
    repository = publish_all(root)
    publish_same(repository)
    publish_minilm(repository, root)
    for name in ("letters", "far_letters"):
        publish(Path(letters.__file__), repository, name)
    port, grpc_port = free_ports(2)
    with EmbeddedServer(64) as cache_server:
        config = parse_config(
            {
                "repository": str(root),
                "http": {"port": port},
                "grpc": {"port": grpc_port},
                "limits": {"body_timeout_s": BODY_TIMEOUT_S},
                "cache": {"url": cache_server.start(), "tenant_header": TENANT_HEADER},
                "models": {
                    "double": {"versions": ["1", "2"], **REMEMBERED},
                    "counted": REMEMBERED,  # by no other test
                    "far": {"placement": "replicas", "replicas": 2, "affinity": True},
                    "slow": {"batching": {"max_batch": 1}},
                    "words": {**REMEMBERED, "keep_inputs": 100},
                    "minilm": REMEMBERED,
                    "lookup": {"keep_inputs": 100},
                    "letters": {"run_code": True, **REMEMBERED},
                    "far_letters": {"run_code": True, "placement": "replicas"},
                    **dict.fromkeys(SAME, REMEMBERED),
                },
                "pipelines": {
                    "text": {"steps": ["letters", "double"], **REMEMBERED},
                    "far_text": {"steps": ["far_letters", "double"]},
                },
            }
        )
        with serving(config) as server:
            yield Running(server, cache_server)
