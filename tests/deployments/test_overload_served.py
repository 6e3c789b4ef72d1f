"""A flood to a real server, with a cheaper version and without."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deployments import app
from deployments.load import Load, Reply, infer_request
from deployments.ports import free_ports
from deployments.serving import Server, serving
from engines.artifact import Repository
from headrace.config import Config, parse_config
from headrace.errors import ConfigRejected, NotFound
from tests.deployments.test_pressure import ask
from tests.onnx_models import publish_dear

TIMEOUT_S = 1.5
ASKED = 1500
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


def flood(server: Server, model: str, count: int = ASKED) -> Load:
    ask(server, [request(model)] * 8, 2)  # the gateways learn how long it takes
    return ask(server, [request(model)] * count, 100)


def answered(load: Load) -> list[Reply]:
    return [reply for reply in load.replies if reply.status == 200]


def version_of(reply: Reply) -> str:
    head = reply.body[: int(reply.headers["inference-header-content-length"])]
    return str(json.loads(head)["model_version"])


def p99_s(replies: list[Reply]) -> float:
    return float(np.percentile([reply.seconds for reply in replies], 99))


@pytest.mark.parametrize("model", ["helped", "far_helped"])
def test_under_a_flood_a_cheaper_version_answers_what_would_be_refused(server: Server, model: str) -> None:
    alone, helped = flood(server, "alone"), flood(server, model)
    told = {
        name: {
            "answered": len(answered(load)),
            "of them by version 2": sum(version_of(reply) == "2" for reply in answered(load)),
            "refused": sum(reply.status == 429 for reply in load.replies),
            "expired": sum(reply.status == 504 for reply in load.replies),
            "seconds": round(load.seconds, 1),
            "P99 of answers": round(p99_s(answered(load)), 3),
        }
        for name, load in (("alone", alone), (model, helped))
    }
    print(told)
    assert {reply.status for reply in helped.replies} <= {200, 429, 504}
    assert len(answered(helped)) / helped.seconds > 2 * len(answered(alone)) / alone.seconds, told
    assert p99_s(answered(helped)) < TIMEOUT_S + 0.5, told
    for reply in answered(helped):
        by_cheaper = version_of(reply) == "2"
        assert reply.headers.get("headrace-variant") == ("cheaper" if by_cheaper else None)
    assert any("headrace-variant" not in reply.headers for reply in answered(helped))


def test_a_request_that_names_its_version_gets_that_or_a_refusal(server: Server) -> None:
    load = ask(server, [request("helped", "1")] * 300, 100)
    assert {version_of(reply) for reply in answered(load)} == {"1"}
    assert any(reply.status == 429 for reply in load.replies)


def test_without_pressure_the_usual_version_answers(server: Server) -> None:
    load = ask(server, [request("helped")] * 10, 1)
    assert {version_of(reply) for reply in answered(load)} == {"1"}
    assert len(answered(load)) == 10


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
