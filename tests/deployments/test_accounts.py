"""What is told of a request, by which rule; spans arrive at a real collector."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from deployments.accounts import Accounts
from deployments.logs import RequestLog
from deployments.tracing import Tracing, open_tracing
from headrace.config import LogsConfig, TracingConfig
from headrace.errors import EngineFailed, HeadraceError, TensorRejected
from headrace.requests import Asked, InferRequest, InferResponse, Timings
from headrace.trace import TraceContext, new_span_id, new_trace_id
from monitoring.stages import stages_of
from tests.monitoring.collector import Collector, collecting

X = np.ones((3, 4), np.float32)


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.told: list[dict[str, object]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.told += [json.loads(line) for line in str(record.msg).splitlines()]


@dataclass
class Desk:
    """Accounts with a real collector behind them."""

    accounts: Accounts
    collector: Collector
    lines: Lines
    tracing: Tracing | None

    def came(self, headers: dict[str, str] | None = None, ago_s: float = 0.0) -> Asked:
        asked = self.accounts.asked("http", list((headers or {}).items()), time.monotonic() - ago_s)
        assert asked is not None
        return asked

    def answer(self, asked: Asked, took_s: float = 0.01) -> None:
        timings = Timings(0.001, 0.002, 4, "miss")
        request = InferRequest("m", {"x": X}, asked=asked)
        response = InferResponse("m", "1", {"y": X[:1]}, timings=timings)
        self.accounts.answered(request, response, took_s, stages_of(timings, took_s))

    def names(self) -> list[str]:
        """Of the spans of requests that were told."""
        self.accounts.close()
        return [span.name for span in self.collector.spans if span.name.startswith("infer")]


@pytest.fixture
def desk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    tracing_config, logs_config = request.param
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        lines = Lines()
        tracing = open_tracing(tracing_config, "gateway")
        accounts = Accounts(tracing, RequestLog(logs_config, lines, {"process": "gateway"}))
        accounts.start()
        yield Desk(accounts, collector, lines, tracing)


def told(tracing: TracingConfig | None, **logs: object) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("desk", [(tracing, LogsConfig.model_validate(logs))], indirect=True)


@told(TracingConfig(rate=1.0))
def test_at_rate_one_every_request_is_traced(desk: Desk) -> None:
    for _ in range(20):
        desk.answer(desk.came())
    assert desk.names() == ["infer m"] * 20


@told(TracingConfig(rate=0.0))
def test_at_rate_zero_none_is_unless_its_caller_says_so(desk: Desk) -> None:
    for _ in range(20):
        desk.answer(desk.came())
    parent = TraceContext(new_trace_id(), new_span_id(), True)
    desk.answer(desk.came({"traceparent": parent.header()}))
    assert desk.names() == ["infer m"]
    assert {span.trace_id for span in desk.collector.spans} == {f"{parent.trace_id:032x}"}


@told(TracingConfig(rate=0.0, slower_than_ms=100.0, kept_per_s=3.0))
def test_slow_ones_are_kept_up_to_the_allowance(desk: Desk) -> None:
    for _ in range(10):
        desk.answer(desk.came(), took_s=0.099)
        desk.answer(desk.came(), took_s=0.1)
    assert len(desk.names()) == 3
    assert desk.tracing is not None
    assert desk.tracing.left_out == 7


@pytest.mark.parametrize(
    ("err", "status", "kind", "is_traced"),
    [
        (EngineFailed("x"), 500, "engine", True),
        (RuntimeError("x"), 500, "internal", True),
        (TensorRejected("x"), 400, "tensor", False),
        (asyncio.CancelledError(), 499, "left", False),
    ],
)
@told(TracingConfig(rate=0.0), requests="errors")
def test_our_failures_are_traced_and_every_failure_has_a_line(
    desk: Desk, err: BaseException, status: int, kind: str, is_traced: bool
) -> None:
    desk.answer(desk.came())
    request = InferRequest("m", {"x": X}, asked=desk.came({"x-request-id": "r7"}))
    desk.accounts.failed(request, "1", err, is_known=True)
    assert desk.names() == ["infer m"] * is_traced
    (line,) = desk.lines.told
    assert (line["status"], line["error"], line["request_id"], line["rows"]) == (status, kind, "r7", 3)


@told(TracingConfig(rate=1.0), requests="all")
def test_a_model_that_nobody_knows_names_nothing(desk: Desk) -> None:
    request = InferRequest("what\never", {}, asked=desk.came())
    desk.accounts.failed(request, "?", HeadraceError("x"), is_known=False)
    assert desk.names() == ["infer"]
    assert desk.lines.told[0]["model"] == ""


@told(None, requests="all", sample=0.0, slower_than_ms=100.0)
def test_without_traces_there_are_lines_all_the_same(desk: Desk) -> None:
    desk.answer(desk.came(), took_s=0.01)
    desk.answer(desk.came({"x-request-id": "late"}), took_s=0.5)
    assert desk.names() == []
    (line,) = desk.lines.told
    assert (line["request_id"], line["level"]) == ("late", "WARNING")
    assert "trace_id" not in line
    assert desk.accounts.headers(desk.came(), 200) == {}


@told(None)
def test_where_both_are_off_nothing_is_made_of_a_request(desk: Desk) -> None:
    assert desk.accounts.asked("http", [("x-request-id", "r")], 0.0) is None
    desk.accounts.answered(InferRequest("m", {}), InferResponse("m", "1", {}), 1.0, (0.0,) * 7)


@told(TracingConfig(rate=0.0, slower_than_ms=100.0))
def test_the_answer_tells_its_span_and_whether_it_will_be_kept(desk: Desk) -> None:
    quick, slow = desk.came(), desk.came(ago_s=0.2)
    assert quick.context is not None
    assert desk.accounts.headers(quick, 200) == {"traceparent": quick.context.header()}
    assert desk.accounts.headers(slow, 200)["traceparent"].endswith("-01")
    assert desk.accounts.headers(quick, 503)["traceparent"].endswith("-01")


@told(TracingConfig(), requests="all")
def test_a_callers_id_is_cut_and_one_is_made_where_there_is_none(desk: Desk) -> None:
    assert len(desk.came({"x-request-id": "x" * 4000}).request_id) == 128
    assert len(desk.came().request_id) == 32


@pytest.mark.parametrize("variables", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}])
def test_the_environment_turns_traces_off(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert open_tracing(TracingConfig(rate=1.0), "gateway") is None
