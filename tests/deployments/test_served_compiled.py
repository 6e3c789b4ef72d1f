"""Compiled modules behind a real server: on CPUs always, as CUDA graphs where there is a GPU."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deployments import app
from deployments.load import closed_loop, infer_request
from deployments.ports import free_ports
from deployments.serving import Server, serving
from engines.artifact import Repository
from headrace.config import Config, parse_config
from headrace.errors import ConfigRejected
from optimize.compiled import PACKAGE, why_not
from tests.engines.modules import SIGNATURE, compiled, inputs, wanted
from tests.engines.test_cuda import why_not as why_no_gpu

pytestmark = pytest.mark.skipif(bool(why_not("aot")), reason=why_not("aot") or "-")
ON_A_GPU = {"placement": "replicas", "run_code": True, "num_gpus": 0.5, "batching": {"max_batch": 8}}


def published(root: Path, folder: Path, engine: str, device: str) -> None:
    artifact = compiled(folder, engine, device)
    Repository(root).publish(
        "summing",
        "1",
        {PACKAGE: folder / PACKAGE},
        graph=PACKAGE,
        signature=SIGNATURE,
        engine=engine,
        warm_up=({"batch": 2, "length": 5},),
        precision=artifact.manifest.precision,
    )


def config(root: Path, port: int, model: dict[str, Any]) -> Config:
    return parse_config(
        {"repository": str(root), "http": {"port": port}, "gateways": 1, "models": {"summing": model}}
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found: Path = tmp_path_factory.mktemp("models")
    published(found, tmp_path_factory.mktemp("compiled"), "aot", "cpu")
    return found


@pytest.fixture(scope="module", params=["inline", "replicas"])
def server(root: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    (port,) = free_ports(1)
    with serving(config(root, port, {"placement": request.param, "run_code": True})) as running:
        yield running


def check(server: Server) -> None:
    """Requests of many shapes at once are answered as the module answers them."""
    batches = [inputs(1 + n % 3, 1 + (5 * n) % 40, n) for n in range(60)]
    bodies = [infer_request("test", "summing", batch) for batch in batches]
    load = asyncio.run(closed_loop("127.0.0.1", server.config.http.port, bodies, 8))
    assert {reply.status for reply in load.replies} == {200}
    for batch, reply in zip(batches, load.replies, strict=True):
        raw = reply.body[int(reply.headers["inference-header-content-length"]) :]
        found = np.frombuffer(raw, "<f4", len(batch["scale"]))  # the other output follows
        np.testing.assert_allclose(found, wanted(batch), rtol=1e-3, atol=1e-4)


def test_a_compiled_module_is_served_in_gateways_and_replicas(server: Server) -> None:
    check(server)


def test_compiled_code_of_nobody_who_was_trusted_is_refused_before_anything_starts(root: Path) -> None:
    with pytest.raises(ConfigRejected, match="'summing' is compiled code, which runs in the server: set run"):
        app.setups(app.pinned(config(root, 1, {})))


@pytest.mark.gpu
def test_a_module_compiled_for_a_gpu_is_served_by_half_of_one(tmp_path: Path) -> None:
    if reason := why_no_gpu():
        pytest.skip(reason)
    (port,) = free_ports(1)
    (tmp_path / "compiled").mkdir()
    published(tmp_path / "models", tmp_path / "compiled", "aot-cuda", "cuda")
    with serving(config(tmp_path / "models", port, ON_A_GPU)) as running:
        check(running)
