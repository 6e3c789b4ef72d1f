"""Spans made of a finished request's times."""

from dataclasses import replace
from itertools import count

from headrace.trace import TraceContext
from monitoring.finished import Finished
from monitoring.spans import BatchRan, batch_context, batch_span, request_spans

STAGES = (
    ("wire", 0.001),
    ("decode", 0.002),
    ("cache", 0.0),
    ("queue", 0.003),
    ("pad", 0.001),
    ("engine", 0.01),
    ("encode", 0.001),
)
BATCH = TraceContext(77, 78, True)
FINISHED = Finished(
    model="minilm",
    version="2",
    way="http",
    started=1000.0,
    took_s=0.018,
    stages=STAGES,
    rows=1,
    batch_rows=4,
    tier="miss",
    request_id="r1",
    context=TraceContext(5, 6, False, "a=1"),
    parent=TraceContext(5, 4, True),
    batches=(BATCH.header(),),
)


def test_the_stages_lie_end_to_end_within_the_request() -> None:
    server, *stages = request_spans(FINISHED)
    assert (server.name, server.kind) == ("infer minilm", "server")
    assert server.end_ns - server.start_ns == 18_000_000
    assert [span.name for span in stages] == ["decode", "queue", "engine", "encode"]
    start = server.start_ns
    assert [(span.start_ns - start, span.end_ns - start) for span in stages] == [
        (1_000_000, 3_000_000),
        (3_000_000, 6_000_000),
        (7_000_000, 17_000_000),
        (17_000_000, 18_000_000),
    ]


def test_all_belong_to_one_trace_below_the_caller() -> None:
    ids = count(100)
    server, *stages = request_spans(FINISHED, lambda: next(ids))
    assert server.parent == FINISHED.parent
    assert server.is_parent_remote
    assert server.context == TraceContext(5, 6, True, "a=1")
    assert {span.parent for span in stages} == {server.context}
    assert {span.context.trace_id for span in stages} == {5}
    assert len({span.context.span_id for span in stages}) == 4


def test_no_stage_ends_after_its_request() -> None:
    server, *stages = request_spans(replace(FINISHED, took_s=0.010))
    assert all(span.start_ns <= span.end_ns <= server.end_ns for span in stages)


def test_the_engine_links_to_its_batch_and_the_batch_to_every_request() -> None:
    engine = next(span for span in request_spans(FINISHED) if span.name == "engine")
    assert engine.links == (BATCH,)
    requests = tuple(TraceContext(n, n + 1) for n in range(1, 4))
    context = batch_context()
    span = batch_span(BatchRan("minilm", "2", "length<=64", 4, 0.9, 1000.5, 0.25, requests), context)
    assert (span.links, span.context, span.parent) == (requests, context, None)
    assert (span.start_ns, span.end_ns) == (1_000_250_000_000, 1_000_500_000_000)
    assert span.attributes["headrace.batch_rows"] == 4


def test_failures_of_ours_are_errors_and_those_of_callers_are_not() -> None:
    ours, *_ = request_spans(replace(FINISHED, status=500, error="engine"))
    theirs, *_ = request_spans(replace(FINISHED, status=400, error="tensor"))
    assert (ours.error, theirs.error) == ("engine", "")
    assert ours.attributes["error.type"] == "engine"
    assert theirs.attributes["error.type"] == "tensor"


def test_attributes_follow_the_conventions_of_each_way() -> None:
    http, *_ = request_spans(replace(FINISHED, status=429, error="overloaded"))
    assert http.attributes["http.response.status_code"] == 429
    assert http.attributes["http.request.method"] == "POST"
    grpc, *_ = request_spans(replace(FINISHED, way="grpc", status=429))
    assert grpc.attributes["rpc.grpc.status_code"] == 8
    assert grpc.attributes["rpc.system"] == "grpc"
    handle, *_ = request_spans(replace(FINISHED, way="handle"))
    assert handle.attributes["rpc.method"] == "infer"
