"""Spans on their way to a real collector, and what happens where there is none."""

import logging
import subprocess
import sys

import pytest

from deployments.ports import free_ports
from headrace.errors import EngineUnavailable
from headrace.trace import TraceContext
from monitoring.spans import Span
from monitoring.traces import check_installed, exporters_in, open_traces, target_of, without_secrets
from tests.monitoring.collector import collecting

SPAN = Span(
    "infer m",
    "server",
    TraceContext(1, 2, True, "a=1"),
    TraceContext(1, 9, True),
    1_000,
    5_000,
    {"headrace.model": "m", "headrace.rows": 2, "headrace.fill": 0.5},
    (TraceContext(3, 4, True),),
    "engine",
    True,
)


def test_a_span_arrives_as_it_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        traces = open_traces({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}, {"headrace.process": "gateway"})
        assert traces is not None
        traces.start()
        traces.put(SPAN)
        traces.close()
        (got,) = collector.spans
    assert (got.name, got.kind, got.is_error) == ("infer m", 2, True)
    assert (got.trace_id, got.span_id, got.parent) == (f"{1:032x}", f"{2:016x}", f"{9:016x}")
    assert (got.start_ns, got.end_ns, got.state) == (1_000, 5_000, "a=1")
    assert got.attributes == SPAN.attributes
    assert got.links == ((f"{3:032x}", f"{4:016x}"),)
    assert got.resource["service.name"] == "headrace"
    assert got.resource["headrace.process"] == "gateway"


def test_the_environment_names_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{collector.url}/v1/traces")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "search")
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test,service.version=7")
        traces = open_traces({}, {})
        assert traces is not None
        traces.start()
        traces.put(SPAN)
        traces.close()
        (got,) = collector.spans
    assert got.resource["service.name"] == "search"
    assert got.resource["deployment.environment"] == "test"
    assert got.resource["service.version"] == "7"


def test_nobody_there_is_told_once_and_costs_spans_only(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (port,) = free_ports(1)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://user:hidden@127.0.0.1:{port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    traces = open_traces({"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "1"}, {})
    assert traces is not None
    with caplog.at_level(logging.WARNING):
        traces.put(SPAN)
        traces._deliver([SPAN])
        traces._deliver([SPAN])
        traces.close()
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1, told
    assert "requests go on" in told[0]
    assert "hidden" not in caplog.text
    assert traces.failed == 2


@pytest.mark.parametrize(
    ("environment", "names"),
    [
        ({}, ["otlp"]),
        ({"OTEL_TRACES_EXPORTER": ""}, ["otlp"]),
        ({"OTEL_TRACES_EXPORTER": "console, otlp"}, ["console", "otlp"]),
        ({"OTEL_TRACES_EXPORTER": "none"}, []),
        ({"OTEL_SDK_DISABLED": "TRUE"}, []),
        ({"OTEL_SDK_DISABLED": "no"}, ["otlp"]),
    ],
)
def test_the_environment_says_where_spans_go(environment: dict[str, str], names: list[str]) -> None:
    assert exporters_in(environment) == names
    assert (open_traces(environment, {}) is None) is (names == [])


def test_the_target_is_told_without_its_password() -> None:
    assert target_of({}) == "otlp to http://localhost:4318"
    assert target_of({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://u:p@c:1"}) == "otlp to http://***@c:1"
    assert target_of({"OTEL_TRACES_EXPORTER": "none"}) == ""


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:p@c:1/v1?key=secret#x", "https://***@c:1/v1?***"),
        ("http://c/a@b", "http://c/a@b"),
        ("c:4317?token=t", "c:4317?***"),
        ("u:p@c:4317", "***@c:4317"),
    ],
)
def test_what_may_be_a_secret_in_the_target_is_not_shown(url: str, shown: str) -> None:
    assert without_secrets(url) == shown


def test_an_exporter_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(EngineUnavailable, match=r"'zipkin'.*there are: console, none, otlp"):
        check_installed({"OTEL_TRACES_EXPORTER": "zipkin"})


def test_without_opentelemetry_it_says_what_to_install() -> None:
    program = """
import sys
sys.modules["opentelemetry"] = None
from monitoring.traces import check_installed
from headrace.errors import EngineUnavailable
check_installed({"OTEL_TRACES_EXPORTER": "none"})
try:
    check_installed({})
except EngineUnavailable as err:
    print(err)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "install headrace[trace]" in done.stdout


def test_nothing_of_opentelemetry_is_imported_before_something_is_exported() -> None:
    program = """
import sys
import monitoring.traces, monitoring.spans, monitoring.sampling, monitoring.logs
assert monitoring.traces.open_traces({"OTEL_SDK_DISABLED": "true"}, {}) is None
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
