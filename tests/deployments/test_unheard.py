"""Traces that nobody takes, and secrets that nobody is to read, with a real server."""

from __future__ import annotations

import http.client
import json
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import ray

from deployments.admin import TOKEN
from deployments.load import infer_request
from deployments.ports import free_ports
from deployments.serving import Server, serving
from headrace.config import parse_config
from optimize.publish import publish
from tests.monitoring import breaks
from tests.onnx_models import publish_all

MARK = "MARKED7f3a"  # in everything that is to stay with whom it belongs to
TEXTS = np.array([[f"{MARK}tensor"]], dtype=object)
SECRETS = {
    "authorization": f"Bearer {MARK}token",
    "cookie": f"{MARK}cookie",
    "x-tenant": f"{MARK}tenant",
    "headrace-caller": f"{MARK}caller",
    "tracestate": f"a={MARK}state",
}


@dataclass(frozen=True)
class Unheard:
    server: Server
    logs: Path

    def send(self, model: str, body: bytes, headers: dict[str, str]) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.config.http.port, timeout=30)
        connection.request("POST", f"/v2/models/{model}/infer", body, {**SECRETS, **headers})
        response = connection.getresponse()
        response.read()
        connection.close()
        return response.status

    def ask(self, model: str, x: np.ndarray, request_id: str) -> int:
        head, _, body = infer_request("test", model, {"x": x}).partition(b"\r\n\r\n")
        length = head.decode().rpartition("inference-header-content-length: ")[2]
        headers = {"inference-header-content-length": length, "x-request-id": request_id}
        return self.send(model, body, headers)

    def lines(self) -> list[str]:
        return [line for file in self.logs.glob("*.log*") for line in file.read_text().splitlines()]

    def lost(self) -> float:
        with urllib.request.urlopen(self.server.metrics_url, timeout=10) as response:
            lines = response.read().decode().splitlines()
        return sum(
            float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith("ray_headrace_traces_lost_total{")
        )


@pytest.fixture(scope="module")
def unheard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Unheard]:
    root: Path = tmp_path_factory.mktemp("models")
    logs: Path = tmp_path_factory.mktemp("logs")
    publish(Path(breaks.__file__), publish_all(root), "breaks")
    port, nobody, no_cache = free_ports(3)
    config = parse_config(
        {
            "repository": str(root),
            "gateways": 1,
            "http": {"port": port},
            "cache": {"url": f"redis://:{MARK}password@127.0.0.1:{no_cache}/0", "tenant_header": "x-tenant"},
            "tracing": {"rate": 1.0},
            "logs": {"requests": "all", "folder": str(logs)},
            "models": {"words": {"cache": True, "cache_shared": "always"}, "breaks": {"run_code": True}},
        }
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://user:{MARK}there@127.0.0.1:{nobody}")
        patch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"authorization={MARK}header")
        patch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        patch.setenv(TOKEN, f"{MARK}admin")
        with serving(config) as server:
            yield Unheard(server, logs)


def test_a_collector_that_is_down_costs_no_request_and_is_told_once(unheard: Unheard) -> None:
    assert {unheard.ask("words", TEXTS, f"r{number}") for number in range(200)} == {200}
    deadline = time.monotonic() + 30
    while unheard.lost() < 200:
        assert time.monotonic() < deadline, unheard.lost()
        time.sleep(0.5)
    assert unheard.ask("words", TEXTS, "later") == 200
    told = [line for line in unheard.lines() if "traces cannot be delivered" in line]
    assert len(told) == 1, told


def test_nothing_that_callers_or_operators_keep_to_themselves_is_in_any_log(unheard: Unheard) -> None:
    assert unheard.ask("words", TEXTS, "fine") == 200
    assert unheard.ask("breaks", -np.ones((1, 4), np.float32), "ours") == 500
    assert unheard.send("words", json.dumps({"inputs": f"{MARK}wrong"}).encode(), {}) == 400
    assert unheard.send("words", f"{MARK} no JSON".encode(), {}) == 400
    assert unheard.send(f"{MARK}model", b"{}", {}) in (400, 404)
    deadline = time.monotonic() + 10
    while not any('"fine"' in line for line in unheard.lines()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(1)
    session = Path(ray._private.worker._global_node.get_session_dir_path()) / "logs"
    files = [file for folder in (unheard.logs, session) for file in folder.rglob("*") if file.is_file()]
    assert len(files) > 10
    found = [str(file) for file in files if MARK.encode() in file.read_bytes()]
    assert found == []


def test_lines_of_requests_are_json_among_text(unheard: Unheard) -> None:
    assert unheard.ask("breaks", -np.ones((1, 4), np.float32), "again") == 500
    deadline = time.monotonic() + 10
    while not (mine := [line for line in unheard.lines() if '"again"' in line]):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert json.loads(mine[0])["error"] == "engine"
    texts = [line for line in unheard.lines() if "the engine raised" in line]
    assert texts
    assert not texts[0].startswith("{")
