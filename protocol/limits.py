"""What a body may cost before it is believed: bytes, nesting, tensors, dimensions."""

from __future__ import annotations

import reprlib
import zlib
from dataclasses import dataclass

import numpy as np

from headrace.config import LimitsConfig
from headrace.errors import CallerError, HeadraceError, TooLarge

_WBITS = {"gzip": 31, "deflate": 15}  # of zlib.decompressobj
_LONGEST_ERROR = 1000  # characters
_CHUNK = 1 << 20  # marks per step of the depth scan
_OTHERS = bytes(set(range(256)) - set(b'"[]{}'))
_STEP = np.zeros(256, dtype=np.int8)
_STEP[list(b"[{")] = 1
_STEP[list(b"]}")] = -1

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 80
_REPR.maxlist = 16
_SHORT = 32  # characters


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest request that is read. `tensors` bounds inputs and outputs, `rank` their dimensions."""

    body_bytes: int
    json_depth: int
    tensors: int
    rank: int

    @classmethod
    def from_config(cls, config: LimitsConfig) -> Limits:
        return cls(config.body_mib << 20, config.json_depth, config.tensors, config.rank)


def shown(value: object) -> str:
    """A caller's value as an error message may show it: its repr, cut short whatever its size."""
    if type(value) is str and len(value) <= _SHORT:  # names, of which every request has some
        return repr(value)
    return _REPR.repr(value)


def error_text(err: HeadraceError) -> str:
    """An error's message as a reply may carry it: bounded, and text that UTF-8 can write."""
    return (str(err) or err.kind)[:_LONGEST_ERROR].encode("utf-8", "replace").decode()


def check_depth(raw: bytes | memoryview, depth: int) -> None:
    """CallerError when JSON text nests arrays and objects deeper than `depth`.

    Runs before any parser, in linear time and without recursion. Brackets inside strings do not
    count. For text that is not JSON the answer holds up to the byte where a parser would stop.
    """
    text = bytes(raw)
    if text.count(b"[") + text.count(b"{") <= depth:
        return
    marks = text.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _OTHERS)
    level, quoted = 0, 0
    for start in range(0, len(marks), _CHUNK):
        codes = np.frombuffer(marks, np.uint8, min(_CHUNK, len(marks) - start), start)
        # The count of quotes wraps at 256, which keeps its lowest bit: 1 inside a string.
        inside = (np.cumsum(codes == ord('"'), dtype=np.uint8) + np.uint8(quoted)) & 1
        levels = level + np.cumsum(np.where(inside, 0, _STEP[codes]), dtype=np.int64)
        if levels.max() > depth:
            raise CallerError(
                f"the JSON nests deeper than the {depth} levels allowed; send tensor data as one flat list"
            )
        level, quoted = int(levels[-1]), int(inside[-1])


def decompress(body: bytes | memoryview, encoding: str, limit: int) -> bytes:
    """The body as it was before its Content-Encoding, never more than `limit` bytes of it.

    Knows `gzip` (one member), `deflate` (the zlib format, as HTTP defines it) and `identity`.
    TooLarge past the limit, CallerError for another encoding or a damaged stream.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        if len(body) > limit:
            raise TooLarge(f"the body has {len(body)} bytes; at most {limit} are allowed")
        return bytes(body)
    if name not in _WBITS:
        raise CallerError(
            f"Content-Encoding {shown(encoding)} is not supported; allowed: {', '.join(_WBITS)}, identity"
        )
    stream = zlib.decompressobj(wbits=_WBITS[name])
    try:
        plain = stream.decompress(body, limit + 1)
    except zlib.error as err:
        raise CallerError(f"the body is not valid {name}; compress it again or send it plain") from err
    if len(plain) > limit:
        raise TooLarge(
            f"the body inflates to more than the {limit} bytes allowed; send fewer or smaller tensors"
        )
    if not stream.eof:
        raise CallerError(f"the {name} body ends too early; send the whole stream")
    if stream.unused_data:
        raise CallerError(f"bytes follow the end of the {name} stream; send exactly one stream")
    return plain
