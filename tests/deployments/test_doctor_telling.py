"""What the doctor says of traces and logs."""

from deployments.doctor.telling import checks, traces
from deployments.ports import free_ports
from headrace.config import Config, parse_config
from tests.monitoring.collector import collecting


def config(**more: object) -> Config:
    return parse_config({"models": {"m": {}}, **more})


def test_traces_are_off_unless_they_are_asked_for() -> None:
    (found,) = traces(config(), {})
    assert (found.state, found.found) == ("ok", "off (tracing: {})")
    (found,) = traces(config(tracing={}), {"OTEL_SDK_DISABLED": "true"})
    assert found.found == "off, as OpenTelemetry's variables say"


def test_a_collector_that_listens_is_fine_and_one_that_does_not_is_told() -> None:
    traced = config(tracing={"rate": 0.1, "slower_than_ms": 250})
    with collecting() as collector:
        there, listens = traces(traced, {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
    assert there.found == (
        "0.1 of the requests whose caller has not decided it, those that take 250 ms or more, "
        f"and failures -> otlp to {collector.url}"
    )
    assert listens.state == "ok"
    (port,) = free_ports(1)
    _, silent = traces(traced, {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://u:secret@127.0.0.1:{port}"})
    assert (silent.state, silent.found) == ("warn", f"127.0.0.1:{port} is silent")
    assert "requests go on" in silent.advice


def test_it_says_where_lines_are_written() -> None:
    told = config(logs={"requests": "slow", "folder": "/var/log/headrace"})
    *_, found = checks(told)
    assert found.found == "/var/log/headrace, as text, a line of each request that fails or takes 250 ms"
    assert list(checks(None)) == []
