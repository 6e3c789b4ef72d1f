"""Which answers are compressed, and how."""

import gzip
import zlib

import numpy as np
import pytest

from protocol.compression import WORTH_BYTES, accepted, compress, is_worth_it


@pytest.mark.parametrize(
    ("header", "encoding"),
    [
        (None, None),
        ("", None),
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate, br", "gzip"),
        ("deflate, gzip", "gzip"),
        ("GZIP;q=0.5, deflate;q=0.8", "deflate"),
        ("gzip; q=0, deflate", "deflate"),
        ("gzip;q=0", None),
        ("identity", None),
        ("br, zstd", None),
        ("*", "gzip"),
        ("gzip;q=0, *", "deflate"),
        ("*;q=0", None),
        ("gzip;q=nonsense", None),
        ("gzip;q=7", None),
        ("gzip;q=nan", None),
        (";;,,=", None),
    ],
)
def test_the_best_liked_encoding_of_ours_is_taken(header: str | None, encoding: str | None) -> None:
    assert accepted(header) == encoding


def test_small_bodies_and_noise_are_sent_as_they_are() -> None:
    noise = np.random.default_rng(0).bytes(1 << 20)
    assert not is_worth_it([b"a" * (WORTH_BYTES - 1)])
    assert is_worth_it([b"a" * WORTH_BYTES])
    assert not is_worth_it([b"{}", memoryview(noise)])
    assert is_worth_it([b"{}", np.zeros(1 << 16, np.uint8).data])
    assert not is_worth_it([])


def test_the_parts_become_one_stream() -> None:
    parts = [b"head", np.arange(5000, dtype=np.int64).view(np.uint8).data, b"tail"]
    assert gzip.decompress(compress(parts, "gzip")) == b"".join(parts)
    assert zlib.decompress(compress(parts, "deflate")) == b"".join(parts)
