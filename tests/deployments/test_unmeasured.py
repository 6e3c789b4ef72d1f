"""A server with monitoring: false answers, and says of its figures why there are none."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deployments.asking import get
from deployments.load import closed_loop, infer_request
from deployments.ports import free_ports
from deployments.serving import Server, serving
from headrace.config import parse_config
from headrace.errors import NotFound
from tests.onnx_models import publish_all
from tests.processes import headrace
from tests.waiting import settled


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root: Path = tmp_path_factory.mktemp("models")
    publish_all(root)
    (port,) = free_ports(1)
    models = {"double": {}, "far": {"placement": "replicas"}}
    config = parse_config(
        {"repository": str(root), "http": {"port": port}, "monitoring": False, "models": models}
    )
    with serving(config) as running:
        yield running


def test_requests_are_answered_and_figures_refused_with_the_reason(server: Server) -> None:
    bodies = [infer_request("test", model, {"x": np.ones((1, 3), np.float32)}) for model in ("double", "far")]
    load = asyncio.run(closed_loop("127.0.0.1", server.config.http.port, bodies, 1))
    assert [reply.status for reply in load.replies] == [200, 200]
    with pytest.raises(NotFound, match="monitoring: false"):
        get(server.url, "/v2/figures")
    for path in ("/dashboard", "/dashboard/events"):
        with pytest.raises(NotFound, match="no live page: the configuration says monitoring: false"):
            get(server.url, path)


def test_status_tells_the_rest_and_finds_nothing_wrong(server: Server) -> None:
    told = settled(server.ray_address)
    assert told["figures"] is None
    assert set(told["models"]) == {"double", "far"}
    screen = headrace("status", "--address", server.ray_address)
    assert screen.returncode == 0, screen.stderr
    assert "far: version" in screen.stdout
