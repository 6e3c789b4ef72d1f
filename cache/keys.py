"""What a request asks, as 32 bytes: equal keys mean equal answers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from cache.raw import elements, raw
from headrace.errors import CallerError
from headrace.requests import Scalar
from headrace.tensors import Array, TensorMap, dtype_name


def key_of(
    digest: str,
    request_inputs: TensorMap,
    outputs: tuple[str, ...],
    parameters: Mapping[str, Scalar],
    tenant: str,
) -> bytes:
    """The SHA-256 (32 bytes) of all that decides an answer.

    `digest` is that of the artifact: two models of one name never share an answer. The order of inputs,
    outputs and parameters does not matter, nor does an array's memory layout. TensorRejected for a dtype
    outside the protocol, CallerError for a parameter that is no scalar.
    """
    head = [_text(digest), _text(tenant), f"{len(outputs)};"]
    head += map(_text, sorted(outputs))
    head.append(f"{len(parameters)};")
    head += [_text(name) + _scalar(name, parameters[name]) for name in sorted(parameters)]
    head.append(f"{len(request_inputs)};")
    hasher = hashlib.sha256("".join(head).encode("utf-8", "surrogatepass"))
    for name in sorted(request_inputs):
        array = request_inputs[name]
        dtype = dtype_name(array)
        hasher.update(f"{_text(name)}{dtype}{array.shape}".encode("utf-8", "surrogatepass"))
        hasher.update(b"".join(elements(array)) if dtype == "BYTES" else raw(_native(array)))
    return hasher.digest()


def _text(text: str) -> str:
    return f"{len(text)}:{text}"  # the length makes the joined parts unambiguous


def _scalar(name: str, value: Scalar) -> str:
    if isinstance(value, str):
        return f"s{_text(value)}"
    if isinstance(value, bool):
        return "b1;" if value else "b0;"
    if isinstance(value, int):
        return f"i{value:x};"  # hex: decimals of more than 4,300 digits are refused by Python
    if isinstance(value, float):
        return f"f{value.hex()};"
    raise CallerError(f"parameter {name!r} is {type(value).__name__}; allowed: string, number, boolean")


def _native(array: Array) -> Array:
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
