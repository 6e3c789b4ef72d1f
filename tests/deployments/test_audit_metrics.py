"""From what stands on Prometheus ports to what a version did."""

from __future__ import annotations

import http.server
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from deployments.audit_metrics import Look, each_node, parse, read
from headrace.errors import ConfigRejected, EngineUnavailable


def text(
    replica: str = "a", fast: int = 0, slow: int = 0, engine_s: float = 0.0, errors: int = 0, hits: int = 0
) -> str:
    """One process's metrics, as Ray writes them."""
    of = f'model="m",version="1",replica="{replica}",application="headrace"'
    latency = "ray_headrace_request_latency_seconds"
    return "\n".join(
        [
            f"# TYPE {latency} histogram",
            f'{latency}_bucket{{{of},le="0.01"}} {fast}',
            f'{latency}_bucket{{{of},le="0.1"}} {fast + slow}',
            f'{latency}_bucket{{{of},le="+Inf"}} {fast + slow}',
            f"{latency}_count{{{of}}} {fast + slow}",
            f"{latency}_sum{{{of}}} 1.0",
            "# TYPE ray_headrace_batches_total counter",
            f'ray_headrace_batches_total{{{of},group="x"}} 4',
            "# TYPE ray_headrace_batch_service_seconds_total counter",
            f'ray_headrace_batch_service_seconds_total{{{of},group="x"}} {engine_s}',
            "# TYPE ray_headrace_errors_total counter",
            f'ray_headrace_errors_total{{{of},kind="engine"}} {errors}',
            "# TYPE ray_headrace_cache_requests_total counter",
            f'ray_headrace_cache_requests_total{{{of},tier="memory"}} {hits}',
            "# TYPE ray_headrace_queue_depth_rows gauge",
            f"ray_headrace_queue_depth_rows{{{of}}} 0",
            "# TYPE ray_node_cpu_count gauge",
            "ray_node_cpu_count 2",
            "",
        ]
    )


def test_two_looks_tell_what_came_in_between_all_processes_together() -> None:
    first = parse([text("a", fast=10, engine_s=1.0), text("b", fast=5)], 100.0)
    second = parse([text("a", fast=30, slow=5, engine_s=3.0, errors=2, hits=7), text("b", fast=10)], 110.0)
    found = second.since(first).traffic("m", "1", 10.0)
    assert found.latency.edges == (0.01, 0.1, math.inf)
    assert found.latency.counts == (25.0, 30.0, 30.0)
    assert found.per_s == 3.0
    assert found.engine_s == 2.0
    assert found.errors == {"engine": 2.0}
    assert found.tiers == {"memory": 7.0}


def test_a_process_that_began_anew_counts_from_nothing() -> None:
    first = parse([text(fast=1000, engine_s=50.0)], 0.0)
    second = parse([text(fast=20, engine_s=1.0)], 10.0)
    found = second.since(first).traffic("m", "1", 10.0)
    assert found.answered == 20
    assert found.engine_s == 1.0


def test_a_process_that_is_new_counts_whole_and_one_that_is_gone_not_at_all() -> None:
    found = parse([text("new", fast=3)], 1.0).since(parse([text("old", fast=9)], 0.0))
    assert found.traffic("m", "1", 1.0).answered == 3


def test_what_is_not_there_is_nothing() -> None:
    look = parse([text()], 0.0)
    assert look.traffic("other", "1", 1.0).answered == 0
    assert look.processes("other", "1") is None
    assert Look(0.0).traffic("m", "1", None).error_share is None


def test_engines_are_counted_by_process_in_its_own_application_first() -> None:
    def queue(replica: str, application: str) -> str:
        of = f'model="m",version="1",replica="{replica}",application="{application}"'
        return f"ray_headrace_queue_depth_rows{{{of}}} 0\n"

    gateways = queue("g1", "headrace") + queue("g2", "headrace")
    assert parse([gateways], 0.0).processes("m", "1") == 2
    own = "".join(queue(f"r{number}", "headrace:m:1") for number in range(3))
    assert parse([gateways, own], 0.0).processes("m", "1") == 3


@contextmanager
def serving(body: bytes) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://localhost:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()


def test_a_name_becomes_the_address_of_each_node_that_it_stands_for() -> None:
    with serving(text(fast=4).encode()) as url:
        urls = each_node(url)
        assert urls == [url.replace("localhost", "127.0.0.1")]
        assert parse(read(urls), 0.0).traffic("m", "1", 1.0).answered == 4


def test_a_port_that_does_not_answer_is_named() -> None:
    with pytest.raises(EngineUnavailable, match=r"no metrics at http://127\.0\.0\.1:9/metrics"):
        read(["http://127.0.0.1:9/metrics"])
    with serving(b"\xff\xfe") as url, pytest.raises(EngineUnavailable, match="no metrics at"):
        read([url])


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8080", "ftp://h:1/metrics", "http://h/metrics", "file:///etc/passwd"]
)
def test_what_is_no_address_of_a_port_is_refused(url: str) -> None:
    with pytest.raises(ConfigRejected, match="http://HOST:PORT/metrics"):
        each_node(url)
