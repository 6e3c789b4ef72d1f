"""A flood to a real server, with a cheaper version and without."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deployments import app
from deployments.load import Load, Reply, infer_request
from deployments.open_loop import OpenLoad, open_loop
from deployments.ports import free_ports
from deployments.serving import Server, serving
from engines.artifact import Repository
from headrace.config import Config, parse_config
from headrace.errors import ConfigRejected, NotFound
from tests.deployments.test_pressure import ask
from tests.onnx_models import publish_dear

TIMEOUT_S = 2.5
FLOOD_S = 8
NAMES = ("helped", "far_helped", "alone")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root: Path = tmp_path_factory.mktemp("models")
    for name in NAMES:
        publish_dear(Repository(root), name)
    (port,) = free_ports(1)
    usual = {"versions": ["1"], "timeout_ms": TIMEOUT_S * 1000, "batching": {"max_batch": 1}}
    helped = {**usual, "overload": {"version": "2"}}
    config = parse_config(
        {
            "repository": str(root),
            "http": {"port": port},
            "gateways": 2,
            "cache": {"enabled": False},
            "models": {
                "helped": helped,
                "far_helped": {**helped, "placement": "replicas"},
                "alone": usual,
            },
        }
    )
    with serving(config) as running:
        yield running


def request(model: str, version: str | None = None) -> bytes:
    return infer_request("test", model, {"x": np.ones((1, 3), np.float32)}, version)


def flood(server: Server, model: str, rate_per_s: float) -> OpenLoad:
    """Many times what version 1 can answer, for eight seconds."""
    ask(server, [request(model)] * 8, 2)  # the gateways learn how long it takes
    requests = [request(model)] * round(FLOOD_S * rate_per_s)
    port = server.config.http.port
    return asyncio.run(open_loop("127.0.0.1", port, requests, rate_per_s, keep_headers=True))


def figures(load: OpenLoad) -> dict[str, float]:
    return {
        "answered": int((load.status == 200).sum()),
        "by version 2": sum("headrace-variant" in headers for headers in load.headers),
        "refused": int((load.status == 429).sum()),
        "expired": int((load.status == 504).sum()),
        "P50 ms": round(load.percentile_ms(50)),
        "P99 ms": round(load.percentile_ms(99)),
    }


def answered(load: Load) -> list[Reply]:
    return [reply for reply in load.replies if reply.status == 200]


def version_of(reply: Reply) -> str:
    head = reply.body[: int(reply.headers["inference-header-content-length"])]
    return str(json.loads(head)["model_version"])


def test_without_pressure_the_usual_version_answers(server: Server) -> None:
    load = ask(server, [request("helped")] * 10, 1)
    assert {version_of(reply) for reply in answered(load)} == {"1"}
    assert not any("headrace-variant" in reply.headers for reply in load.replies)


@pytest.mark.parametrize("model", ["helped", "far_helped"])
def test_under_a_flood_a_cheaper_version_answers_what_would_be_refused(server: Server, model: str) -> None:
    alone, helped = flood(server, "alone", 40), flood(server, model, 40)
    told = {"alone": figures(alone), model: figures(helped)}
    print(told)
    assert set(helped.status) <= {200, 429, 504}
    assert told[model]["answered"] > 4 * told["alone"]["answered"], told
    assert 10 * told[model]["refused"] < told["alone"]["refused"], told
    assert told[model]["P99 ms"] < 1000 * TIMEOUT_S + 500, told
    marks = {(h.get("headrace-variant"), h.get("headrace-version")) for h in helped.headers}
    assert marks == {(None, None), ("cheaper", "2")}


def test_a_request_that_names_its_version_gets_that_or_a_refusal(server: Server) -> None:
    load = ask(server, [request("helped", "1")] * 300, 100)
    assert {version_of(reply) for reply in answered(load)} == {"1"}
    assert any(reply.status == 429 for reply in load.replies)


def config_of(root: Path, **overload: object) -> Config:
    return parse_config({"repository": str(root), "models": {"m": {"versions": ["1"], "overload": overload}}})


def test_what_is_declared_is_checked_before_anything_is_served(tmp_path: Path) -> None:
    publish_dear(Repository(tmp_path), "m")
    assert app.pinned(config_of(tmp_path, version="2")).models["m"].versions == ["2", "1"]
    again = app.pinned(app.pinned(config_of(tmp_path, version="2")))
    assert again.models["m"].versions == ["2", "1"]
    with pytest.raises(ConfigRejected, match=r"models\.m\.overload: version '2' has an accuracy of 0\.915"):
        app.pinned(config_of(tmp_path, version="2", max_drop=0.001))
    with pytest.raises(ConfigRejected, match=r"models\.m\.overload: version '1' answers anyway"):
        app.pinned(config_of(tmp_path, version="1"))
    with pytest.raises(NotFound, match="model 'm' has no version '7'"):
        app.pinned(config_of(tmp_path, version="7"))
