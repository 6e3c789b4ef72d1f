"""Under pressure, against the real server: gateways killed, engines that hang, deadlines, priorities."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from deployments.load import Load, closed_loop, infer_request
from deployments.ports import free_ports
from deployments.serving import Server, serving
from headrace.config import parse_config
from tests.onnx_models import publish_all
from tests.processes import descendants

GATEWAY = "headrace:Gateway"
REPLACED_S = 10.0
HANG_S = 1.0
IN_TABLE_S = 1.0  # a new process, loaded, in HAProxy's table and seen well twice


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Its own server: the tests here end gateways, which others would miss."""
    root: Path = tmp_path_factory.mktemp("models")
    publish_all(root)
    (port,) = free_ports(1)
    config = parse_config(
        {
            "repository": str(root),
            "http": {"port": port},
            "cache": {"enabled": False},
            "models": {
                "double": {},
                "slow": {"timeout_ms": 1500.0, "batching": {"max_batch": 1}},
                "loops": {"batching": {"hang_s": HANG_S, "max_batch": 1}},
                "far_loops": {
                    "placement": "replicas",
                    "replicas": 2,
                    "batching": {"hang_s": HANG_S, "max_batch": 1},
                },
            },
        }
    )
    with serving(config) as running:
        yield running


def replaced(server: Server, name: str, former: list[psutil.Process], since: float) -> float:
    """Seconds until as many processes of this name run as before, one of the former gone."""
    while time.monotonic() - since < 60:
        now = descendants(name, server.ray_address)
        if len(now) == len(former) and set(now) != set(former):
            return time.monotonic() - since
        time.sleep(0.1)
    raise AssertionError(f"no new {name} within a minute")


def ask(server: Server, requests: list[bytes], concurrency: int) -> Load:
    return asyncio.run(closed_loop("127.0.0.1", server.config.http.port, requests, concurrency))


def doubled(count: int) -> list[bytes]:
    rng = np.random.default_rng(8)
    return [infer_request("test", "double", {"x": rng.random((1, 9), np.float32)}) for _ in range(count)]


def test_a_gateway_that_is_killed_under_load_costs_no_answer(server: Server) -> None:
    victims = descendants(GATEWAY, server.ray_address)
    assert len(victims) == 2

    async def kill_in_the_middle() -> Load:
        load = asyncio.create_task(closed_loop("127.0.0.1", server.config.http.port, doubled(4000), 16))
        await asyncio.sleep(0.5)
        victims[0].kill()
        return await load

    began = time.monotonic()
    load = asyncio.run(kill_in_the_middle())
    assert [(reply.status, reply.body) for reply in load.replies if reply.status != 200] == []
    replaced(server, GATEWAY, victims, began)
    time.sleep(IN_TABLE_S)  # the next test ends the other one, which nobody would stand in for


@pytest.mark.parametrize(("model", "name"), [("loops", GATEWAY), ("far_loops", "headrace:far_loops:1:Model")])
def test_an_engine_that_hangs_costs_its_own_request_and_is_replaced(
    server: Server, model: str, name: str
) -> None:
    for_ever = infer_request("test", model, {"x": np.array([[2**62]])})
    former = descendants(name, server.ray_address)
    assert len(former) == 2

    async def hang_in_the_middle() -> tuple[Load, Load]:
        port = server.config.http.port
        others = asyncio.create_task(closed_loop("127.0.0.1", port, doubled(1500), 16))
        return await closed_loop("127.0.0.1", port, [for_ever], 1), await others

    began = time.monotonic()
    hung, others = asyncio.run(hang_in_the_middle())
    (reply,) = hung.replies
    assert (reply.status, b"hung" in reply.body) == (500, True)
    assert HANG_S < reply.seconds < REPLACED_S / 2
    assert [(reply.status, reply.body) for reply in others.replies if reply.status != 200] == []
    assert replaced(server, name, former, began) < REPLACED_S
    answer = ask(server, [infer_request("test", model, {"x": np.array([[3]])})] * 8, 4)
    assert answer.num_failed == 0


def test_what_cannot_be_answered_in_time_is_refused_at_once_and_told_when_to_come_again(
    server: Server,
) -> None:
    request = infer_request("test", "slow", {"x": np.ones((1, 3), np.float32)})
    ask(server, [request] * 8, 2)  # the gateways learn how long it takes
    load = ask(server, [request] * 200, 100)
    refused = [reply for reply in load.replies if reply.status == 429]
    answered = [reply for reply in load.replies if reply.status == 200]
    assert {reply.status for reply in load.replies} <= {200, 429, 504}  # 504: became slower than it looked
    assert len(refused) > 100
    assert answered
    assert all(int(reply.headers["retry-after"]) >= 1 for reply in refused)


def test_haproxy_refuses_most_of_what_an_overloaded_model_cannot_take(server: Server) -> None:
    request = infer_request("test", "slow", {"x": np.ones((1, 3), np.float32)})
    ask(server, [request] * 8, 2)
    load = ask(server, [request] * 1500, 100)
    at_the_front = [reply for reply in load.replies if b"when Retry-After says" in reply.body]
    assert len(at_the_front) > 500
    assert {reply.status for reply in at_the_front} == {429}
    assert all(int(reply.headers["retry-after"]) >= 1 for reply in at_the_front)
    assert not any("headrace-limit" in reply.headers for reply in load.replies)
    assert ask(server, [request] * 4, 1).num_failed == 0
    assert ask(server, doubled(200), 100).num_failed == 0  # the other models have nothing to do with it
