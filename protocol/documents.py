"""JSON documents: parsed within a depth, read field by field with exact types, and written."""

from __future__ import annotations

import json
import math
from typing import Any, TypeVar

import numpy as np
import orjson

from headrace.errors import CallerError, TensorRejected
from protocol.limits import check_depth, shown

_WORDS: dict[type, str] = {
    bool: "true or false",
    dict: "an object",
    int: "an integer",
    list: "a list",
    str: "a string",
}
T = TypeVar("T", bool, dict[str, Any], int, list[Any], str)


def parse(raw: memoryview, depth: int) -> dict[str, Any]:
    """The JSON object in `raw`; CallerError for anything else, or when it nests deeper than `depth`."""
    check_depth(raw, depth)
    try:
        document = orjson.loads(raw)
    except orjson.JSONDecodeError as err:
        document = _parse_bare(bytes(raw), err)
    if not isinstance(document, dict):
        raise CallerError(f"the request must be a JSON object with 'inputs'; got {shown(document)}")
    return document


def _parse_bare(raw: bytes, cause: orjson.JSONDecodeError) -> Any:
    """JSON that is right but for the bare words NaN, Infinity and -Infinity, which Python clients write."""
    reason = str(cause)
    if b"NaN" in raw or b"Infinity" in raw:
        try:
            document = json.loads(raw.decode(), parse_float=_finite)
            if b"\\u" in raw:  # half of a surrogate pair is no text, but the standard library lets it pass
                json.dumps(document, ensure_ascii=False).encode()
            return document
        except ValueError as err:
            reason = str(err)
    hint = "" if raw else "; binary tensors need a JSON part before them that describes them"
    raise CallerError(f"the request is not valid JSON: {reason}{hint}") from cause


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {text[:40]} is too large")
    return value


def required(holder: dict[str, Any], key: str, kind: type[T], where: str) -> T:
    """Like `optional`; TensorRejected when it is absent or null."""
    value = optional(holder, key, kind, where)
    if value is None:
        raise TensorRejected(f"{where} has no '{key}'; it must be {_WORDS[kind]}")
    return value


def optional(holder: dict[str, Any], key: str, kind: type[T], where: str) -> T | None:
    """A JSON value of exactly this type (true is no integer), or None when it is absent or null."""
    value = holder.get(key)
    if value is None or type(value) is kind:
        return value
    raise CallerError(f"{where}: '{key}' must be {_WORDS[kind]}; got {shown(value)}")


def dump_bare(document: dict[str, Any]) -> bytes:
    """JSON with the bare words NaN, Infinity and -Infinity where a number is none."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), default=np.ndarray.tolist).encode()
