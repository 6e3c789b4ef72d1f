"""Traces of a real server at a real collector, and the log lines of the same requests."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from ray.serve.handle import DeploymentHandle

from benchmarks import timed
from deployments.load import infer_request
from deployments.ports import free_ports
from deployments.serving import Server, serving
from deployments.versions import GATEWAY_APP
from headrace.config import parse_config
from headrace.errors import CallerError
from headrace.trace import TraceContext, new_span_id, new_trace_id
from optimize.publish import publish
from tests.monitoring import breaks
from tests.monitoring.collector import Collector, Got, collecting
from tests.onnx_models import publish_all

SLOW_MS = 700.0
BUSY = {"near_timed": "inline", "far_timed": "replicas"}  # a tenth of a second a batch
X = np.ones((1, 4), np.float32)


@dataclass(frozen=True)
class Traced:
    server: Server
    collector: Collector
    logs: Path

    def ask(self, model: str, headers: dict[str, str] | None = None, x: np.ndarray = X) -> dict[str, str]:
        """The answer's headers, its status among them."""
        head, _, body = infer_request("test", model, {"x": x}).partition(b"\r\n\r\n")
        length = head.decode().rpartition("inference-header-content-length: ")[2]
        connection = http.client.HTTPConnection("127.0.0.1", self.server.config.http.port, timeout=30)
        connection.request(
            "POST",
            f"/v2/models/{model}/infer",
            body,
            {"inference-header-content-length": length, **(headers or {})},
        )
        response = connection.getresponse()
        response.read()
        connection.close()
        return {
            **{key.lower(): value for key, value in response.getheaders()},
            "status": str(response.status),
        }

    def trace(self, trace_id: int, *names: str) -> dict[str, Got]:
        """The spans of a trace by name, once these are there."""

        def of_it(spans: list[Got]) -> dict[str, Got]:
            return {span.name: span for span in spans if span.trace_id == f"{trace_id:032x}"}

        return of_it(self.collector.wait(lambda spans: set(names) <= set(of_it(spans))))

    def span(self, span_id: str) -> Got:
        spans = self.collector.wait(lambda spans: any(span.span_id == span_id for span in spans))
        return next(span for span in spans if span.span_id == span_id)

    def line(self, request_id: str) -> dict[str, Any]:
        """A request's line in whichever gateway's log."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            for file in self.logs.glob("*.log"):
                for text in file.read_text().splitlines():
                    if f'"{request_id}"' in text:
                        told: dict[str, Any] = json.loads(text)
                        return told
            time.sleep(0.1)
        raise AssertionError(f"no line of {request_id} in {[file.name for file in self.logs.glob('*')]}")


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    root: Path = tmp_path_factory.mktemp("models")
    logs: Path = tmp_path_factory.mktemp("logs")
    repository = publish_all(root)
    for name in BUSY:
        publish(Path(timed.__file__), repository, name)
    publish(Path(breaks.__file__), repository, "breaks")
    port, grpc_port = free_ports(2)
    placed = {"double": {"versions": ["1"]}, "far": {"placement": "replicas", "replicas": 2}}
    config = parse_config(
        {
            "repository": str(root),
            "http": {"port": port},
            "grpc": {"port": grpc_port},
            "tracing": {"rate": 0.0, "slower_than_ms": SLOW_MS},
            "logs": {"format": "json", "requests": "all", "folder": str(logs)},
            "models": {
                **placed,
                "breaks": {"run_code": True},
                **{
                    name: {"run_code": True, "placement": placement, "batching": {"max_batch": 4}}
                    for name, placement in BUSY.items()
                },
            },
        }
    )
    with collecting() as collector, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
        with serving(config) as server:
            yield Traced(server, collector, logs)


def caller(is_sampled: bool = True) -> TraceContext:
    return TraceContext(new_trace_id(), new_span_id(), is_sampled)


def check_whole(traced: Traced, context: TraceContext, model: str) -> Got:
    """One trace from the caller to the batch and back; the request's own span."""
    spans = traced.trace(context.trace_id, f"infer {model}", "engine")
    server = spans[f"infer {model}"]
    assert server.parent == f"{context.span_id:016x}"
    assert all(span.parent == server.span_id for span in spans.values() if span is not server)
    assert all(server.start_ns <= span.start_ns <= span.end_ns <= server.end_ns for span in spans.values())
    assert abs(server.end_ns / 1e9 - time.time()) < 60
    (link,) = spans["engine"].links
    batch = traced.span(link[1])
    assert batch.name == f"batch {model}"
    assert batch.trace_id == link[0]
    assert (server.trace_id, server.span_id) in batch.links
    assert batch.attributes["headrace.model"] == model
    return server


@pytest.mark.parametrize(("model", "placed"), [("double", "gateway"), ("far", "replica")])
def test_http_is_one_trace_from_the_caller_to_the_batch(traced: Traced, model: str, placed: str) -> None:
    context = caller()
    answer = traced.ask(model, {"traceparent": context.header(), "tracestate": "a=1"})
    server = check_whole(traced, context, model)
    assert server.kind == 2
    assert server.state == "a=1"
    assert server.attributes["http.response.status_code"] == 200
    assert server.attributes["headrace.version"] == "1"
    assert server.attributes["headrace.rows"] == 1
    assert server.resource["headrace.process"] == "gateway"
    told = f"00-{server.trace_id}-{server.span_id}-01"
    assert answer["traceparent"] == told
    names = {span.name for span in traced.collector.spans if span.trace_id == server.trace_id}
    assert {"decode", "engine", "encode"} <= names
    engine = next(
        span for span in traced.collector.spans if span.trace_id == server.trace_id and span.name == "engine"
    )
    assert traced.span(engine.links[0][1]).resource["headrace.process"] == placed


@pytest.mark.parametrize("model", ["double", "far"])
def test_grpc_is_one_trace_too(traced: Traced, model: str) -> None:
    assert traced.server.config.grpc is not None
    client = triton.InferenceServerClient(f"127.0.0.1:{traced.server.config.grpc.port}")
    x = triton.InferInput("x", [1, 4], "FP32")
    x.set_data_from_numpy(X)
    context = caller()
    client.infer(model, [x], headers={"traceparent": context.header(), "x-request-id": f"grpc-{model}"})
    server = check_whole(traced, context, model)
    assert server.attributes["rpc.system"] == "grpc"
    assert server.attributes["rpc.grpc.status_code"] == 0
    assert server.attributes["headrace.request_id"] == f"grpc-{model}"
    assert traced.line(f"grpc-{model}")["way"] == "grpc"


def test_a_call_by_handle_is_one_trace_too(traced: Traced) -> None:
    context = caller()
    handle = DeploymentHandle("Gateway", GATEWAY_APP)
    handle.infer.remote("far", {"x": X}, trace=context.header()).result(timeout_s=30)
    assert check_whole(traced, context, "far").attributes["rpc.system"] == "ray"
    handle.infer.remote("far", {"x": X}, trace="nonsense").result(timeout_s=30)


@pytest.mark.parametrize("model", list(BUSY))
def test_a_batch_is_linked_to_every_request_in_it_from_all_gateways(traced: Traced, model: str) -> None:
    contexts = [caller() for _ in range(12)]
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda context: traced.ask(model, {"traceparent": context.header()}), contexts))
    servers = [check_whole(traced, context, model) for context in contexts]
    mine = {(server.trace_id, server.span_id) for server in servers}
    batches = [
        span for span in traced.collector.spans if span.name == f"batch {model}" and mine & set(span.links)
    ]
    assert max(len(batch.links) for batch in batches) > 1
    linked = [link for batch in batches for link in batch.links]
    assert sorted(linked) == sorted(mine)  # each ran once
    for batch in batches:
        assert batch.attributes["headrace.batch_rows"] == len(batch.links)
        assert batch.end_ns - batch.start_ns > 0.1e9
        assert 0 < batch.attributes["headrace.fill"] <= 1


def test_without_a_rate_only_the_callers_decision_counts(traced: Traced) -> None:
    context = caller(is_sampled=False)
    quick = traced.ask("far", {"traceparent": context.header()})
    assert quick["traceparent"].startswith(f"00-{context.trace_id:032x}-")
    assert quick["traceparent"].endswith("-00")
    alone = traced.ask("far")
    malformed = traced.ask("far", {"traceparent": context.header().upper()})
    sampled = caller()
    traced.ask("far", {"traceparent": sampled.header()})
    check_whole(traced, sampled, "far")
    known = {span.trace_id for span in traced.collector.spans}
    for answer in (quick, alone, malformed):
        assert answer["status"] == "200"
        assert answer["traceparent"].split("-")[1] not in known
    assert f"{context.trace_id:032x}" not in malformed["traceparent"]


@pytest.mark.parametrize("model", list(BUSY))
def test_a_slow_request_is_traced_whoever_decided_what(traced: Traced, model: str) -> None:
    contexts = [caller(is_sampled=False) for _ in range(64)]  # in batches of four, 0.15 s each

    def ask(context: TraceContext) -> tuple[bool, float]:
        began = time.monotonic()
        answer = traced.ask(model, {"traceparent": context.header()})
        return answer["traceparent"].endswith("-01"), time.monotonic() - began

    with ThreadPoolExecutor(64) as pool:
        told = list(pool.map(ask, contexts))
    slow = [context for context, (is_slow, _) in zip(contexts, told, strict=True) if is_slow]
    assert slow
    server = check_whole(traced, slow[-1], model)
    assert server.end_ns - server.start_ns >= SLOW_MS * 1e6
    known = {span.trace_id for span in traced.collector.spans}
    # An answer that is slow by a hair may not know it yet when its headers are written.
    quick = [context for context, (_, took_s) in zip(contexts, told, strict=True) if took_s < SLOW_MS / 1000]
    assert quick
    assert not known & {f"{context.trace_id:032x}" for context in quick}


def test_a_failure_of_the_callers_making_has_a_span_that_says_so(traced: Traced) -> None:
    context = caller()
    answer = traced.ask("double", {"traceparent": context.header()}, np.ones((1, 4), np.int32))
    assert answer["status"] == "400"
    span = traced.trace(context.trace_id, "infer double")["infer double"]
    assert span.attributes["error.type"] == "tensor"
    assert span.attributes["http.response.status_code"] == 400
    assert not span.is_error
    assert answer["traceparent"] == f"00-{span.trace_id}-{span.span_id}-01"


def test_a_failure_of_ours_is_traced_without_being_chosen(traced: Traced) -> None:
    answer = traced.ask("breaks", {"x-request-id": "negative"}, -X)
    assert answer["status"] == "500"
    trace_id = int(answer["traceparent"].split("-")[1], 16)
    assert answer["traceparent"].endswith("-01")
    span = traced.trace(trace_id, "infer breaks")["infer breaks"]
    assert span.is_error
    line = traced.line("negative")
    assert (line["level"], line["status"], line["error"]) == ("ERROR", 500, "engine")


def test_a_request_has_one_line_with_its_times(traced: Traced) -> None:
    context = caller()
    answer = traced.ask("far", {"traceparent": context.header(), "x-request-id": "order-7"})
    assert answer["x-request-id"] == "order-7"
    line = traced.line("order-7")
    assert line["trace_id"] == f"{context.trace_id:032x}"
    expected = {"model": "far", "version": "1", "way": "http", "status": 200, "tier": "off", "rows": 1}
    assert expected.items() <= line.items()
    assert (line["bytes_in"], line["bytes_out"]) == (X.nbytes, X.nbytes)
    assert list(line["stages_ms"]) == ["wire", "decode", "cache", "queue", "pad", "engine", "encode"]
    assert sum(line["stages_ms"].values()) == pytest.approx(line["took_ms"], rel=0.05)
    assert line["process"] == "gateway"
    assert line["replica"]
    made = traced.ask("far")["x-request-id"]
    assert traced.line(made)["model"] == "far"


def test_a_request_whose_body_never_arrives_has_a_line(traced: Traced) -> None:
    head = (
        b"POST /v2/models/far/infer HTTP/1.1\r\nhost: x\r\nx-request-id: half\r\ncontent-length: 100\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", traced.server.config.http.port)) as connection:
        connection.sendall(head + b"half of it")
        time.sleep(0.5)
    line = traced.line("half")
    assert (line["status"], line["error"], line["model"]) == (499, "left", "far")


def test_a_call_with_arguments_that_make_no_request_has_a_line(traced: Traced) -> None:
    handle = DeploymentHandle("Gateway", GATEWAY_APP)
    with pytest.raises(CallerError):
        handle.infer.remote("far", {"x": "no array"}, id="not-a-request").result(timeout_s=30)
    line = traced.line("not-a-request")
    assert (line["status"], line["error"], line["way"]) == (400, "bad_request", "handle")


def test_every_line_of_every_process_is_json(traced: Traced) -> None:
    files = list(traced.logs.glob("*.log"))
    assert {"Gateway", "Model", "Monitor"} <= {part for file in files for part in file.stem.split("_")}
    for file in files:
        for text in file.read_text().splitlines():
            told = json.loads(text)
            assert told["time"].endswith("Z")
            assert told["level"] in ("DEBUG", "INFO", "WARNING", "ERROR")


def test_our_own_errors_are_written(traced: Traced) -> None:
    traced.ask("breaks", {"x-request-id": "again"}, -X)
    traced.line("again")
    lines = [json.loads(text) for file in traced.logs.glob("*.log") for text in file.read_text().splitlines()]
    told = [line for line in lines if line["message"] == "the engine raised"]
    assert told
    assert "Traceback" in told[0]["exception"]
