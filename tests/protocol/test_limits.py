import gzip
import json
import time
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.config import LimitsConfig
from headrace.errors import CallerError, TooLarge
from protocol.limits import Limits, check_depth, decompress, shown

_JSON = st.recursive(
    st.none() | st.integers() | st.text(alphabet='[]{}"\\ab', max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text('[{"\\', max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)


def _depth(value):
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


def test_the_limits_come_from_the_configuration_in_bytes():
    limits = Limits.from_config(LimitsConfig(body_mib=2, json_depth=9, tensors=3, rank=4))
    assert limits == Limits(body_bytes=2 * 1024 * 1024, json_depth=9, tensors=3, rank=4)


@settings(max_examples=200, deadline=None)
@given(_JSON)
def test_the_depth_scan_agrees_with_the_parsed_document(document):
    raw = json.dumps(document).encode()
    depth = _depth(document)
    check_depth(raw, depth)
    if depth:
        with pytest.raises(CallerError):
            check_depth(memoryview(raw), depth - 1)


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"":'])
def test_100_000_brackets_are_refused_before_parsing(opening):
    with pytest.raises(CallerError, match=r"32 levels.*flat list"):
        check_depth(opening * 100_000, 32)


def test_brackets_in_strings_do_not_nest():
    check_depth(rb'["[[[[[[[[", "\"[[[[[[[[\\", "\\\"{{{{{"]', 1)


def test_nesting_across_chunks_of_the_scan_is_counted_on():
    flat, quoted = b"[]" * 700_000, b'"[",' * 300_001
    check_depth(b"[" + quoted + flat + b"]", 2)
    with pytest.raises(CallerError):
        check_depth(b"[" + quoted + flat + b"[[]]]", 2)


def test_an_unclosed_string_of_escaped_quotes_is_scanned_in_linear_time():
    started = time.perf_counter()
    check_depth(b'[[[["' + b'\\"' * 4_000_000, 4)
    assert time.perf_counter() - started < 2.0


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress])
def test_a_compressed_body_comes_back_whole(compress):
    encoding = "gzip" if compress is gzip.compress else " Deflate "
    body = bytes(range(256)) * 10
    assert decompress(compress(body), encoding, len(body)) == body
    assert decompress(memoryview(compress(b"")), encoding, 1) == b""


def test_an_identity_body_is_bounded_too():
    assert decompress(b"abc", "identity", 3) == b"abc"
    with pytest.raises(TooLarge, match="4 bytes; at most 3"):
        decompress(b"abcd", "", 3)


def test_a_gzip_bomb_stops_at_the_limit():
    bomb = gzip.compress(bytes(200 << 20), compresslevel=1)
    assert len(bomb) < 1 << 20
    with pytest.raises(TooLarge, match="1048576 bytes"):
        decompress(bomb, "gzip", 1 << 20)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda body: body[:-1],
        lambda body: body + b"x",
        lambda body: body[::-1],
        lambda body: b"",
        lambda body: body[:12] + b"\xff\xff\xff" + body[15:],
    ],
)
def test_a_damaged_stream_is_the_callers_mistake(encoding, damage):
    compress = gzip.compress if encoding == "gzip" else zlib.compress
    with pytest.raises(CallerError, match=encoding) as caught:
        decompress(damage(compress(b"headrace" * 100)), encoding, 10_000)
    assert caught.value.status == 400


def test_an_unknown_encoding_is_answered_with_those_that_are_known():
    with pytest.raises(CallerError, match=r"'br' is not supported; allowed: gzip, deflate, identity"):
        decompress(b"", "br", 10)


def test_a_callers_value_is_shown_short():
    assert shown("ids") == "'ids'"
    assert len(shown(["x" * 10_000] * 1_000)) < 2_000
