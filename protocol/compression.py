"""Whether and how the body of an answer is compressed."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

WORTH_BYTES = 1024  # less fits a packet or two
_SAMPLE_BYTES = 16 << 10
_WORTH_RATIO = 0.85  # floating-point tensors hardly shrink: what saves less is sent as it is
_LEVEL = 1  # some 5% larger than level 6, several times faster
_WBITS = {"gzip": 31, "deflate": 15}  # of zlib.compressobj; HTTP's deflate is the zlib format


def accepted(header: str | None) -> str | None:
    """The encoding that an Accept-Encoding header likes most among ours; None for an uncompressed body.

    What is no weight counts as 0; gzip comes before deflate where both are liked the same.
    """
    if not header:
        return None
    weights: dict[str, float] = {}
    for part in header.split(","):
        name, _, attributes = part.partition(";")
        weights[name.strip().lower()] = _weight(attributes)
    best, most = None, 0.0
    for name in _WBITS:
        weight = weights.get(name, weights.get("*", 0.0))
        if weight > most:
            best, most = name, weight
    return best


def is_worth_it(parts: Sequence[bytes | memoryview]) -> bool:
    """True when a sample of a body says that compressing it saves enough."""
    if sum(map(len, parts)) < WORTH_BYTES:
        return False
    largest = max(parts, key=len)
    sample = largest[:_SAMPLE_BYTES]
    return len(zlib.compress(sample, _LEVEL)) < _WORTH_RATIO * len(sample)


def compress(parts: Sequence[bytes | memoryview], encoding: str) -> bytes:
    """The whole body in one stream."""
    stream = zlib.compressobj(_LEVEL, wbits=_WBITS[encoding])
    return b"".join([*(stream.compress(part) for part in parts), stream.flush()])


def _weight(attributes: str) -> float:
    key, _, value = attributes.partition("=")
    if key.strip().lower() != "q":
        return 1.0
    try:
        weight = float(value)
    except ValueError:
        return 0.0
    return weight if 0 <= weight <= 1 else 0.0
