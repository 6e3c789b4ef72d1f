"""The W3C trace context: what counts, what is ignored, what is passed on."""

import pytest

from headrace.trace import TraceContext, new_span_id, new_trace_id, parse, read

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


def test_what_is_read_is_written_again() -> None:
    context = parse(PARENT)
    assert context == TraceContext(int(TRACE, 16), int(SPAN, 16), True)
    assert context is not None
    assert context.header() == PARENT


@pytest.mark.parametrize(("flags", "is_sampled"), [("00", False), ("01", True), ("03", True), ("fe", False)])
def test_the_lowest_flag_alone_says_sampled(flags: str, is_sampled: bool) -> None:
    context = parse(f"00-{TRACE}-{SPAN}-{flags}")
    assert context is not None
    assert context.is_sampled is is_sampled


@pytest.mark.parametrize(
    "header",
    [
        "",
        "nonsense",
        PARENT.upper(),
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"{PARENT}\r\nx: y",
    ],
)
def test_a_malformed_parent_counts_as_none(header: str) -> None:
    assert parse(header) is None


def test_a_later_version_may_say_more() -> None:
    assert parse(f"01-{TRACE}-{SPAN}-01-what-comes-then") == parse(PARENT)
    assert parse(f"01-{TRACE}-{SPAN}-01.what") is None


def test_the_state_is_passed_on_unless_it_is_malformed() -> None:
    context = parse(PARENT, "rojo=00f067aa0ba902b7 , congo=t61rcWkgMzE")
    assert context is not None
    assert context.state == "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"
    for bad in ("=x", "a=1,a=2", "A=1", "a=b=c", ",".join(f"k{n}=1" for n in range(33))):
        assert parse(PARENT, bad) == parse(PARENT), bad


def test_a_long_state_loses_whole_members_from_its_end() -> None:
    context = parse(PARENT, ",".join(f"k{n}={'v' * 100}" for n in range(9)))
    assert context is not None
    assert context.state == ",".join(f"k{n}={'v' * 100}" for n in range(4))


def test_headers_are_read_as_bytes_and_as_text() -> None:
    expected = TraceContext(int(TRACE, 16), int(SPAN, 16), True, "a=1,b=2")
    headers = [(b"traceparent", PARENT.encode()), (b"tracestate", b"a=1"), (b"tracestate", b"b=2")]
    assert read(headers) == expected
    assert read([(key.decode(), value.decode()) for key, value in headers]) == expected
    assert read([(b"host", b"x")]) is None
    assert read(headers + headers[:1]) is None


def test_new_ids_are_never_zero_and_all_different() -> None:
    assert len({new_trace_id() for _ in range(100)} | {new_span_id() for _ in range(100)}) == 200
