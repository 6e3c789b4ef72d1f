"""Tensors <-> the bytes kept in a shared store; what comes back is exact or refused.

    magic "HRC", version (1 byte), payload length (8), SHA-256 of key and payload (32), payload:
        when it was made (8 bytes, milliseconds since 1970), number of tensors,
        then for each its name, numpy dtype, shape, number of bytes, bytes
Integers are little-endian. BYTES elements carry their own type and length.
"""

from __future__ import annotations

import hashlib
import math
import struct
from typing import Any

import numpy as np

from cache.raw import ELEMENT, elements, freeze, raw
from headrace.tensors import DTYPES, Array, TensorMap, dtype_name

_MAGIC = b"HRC"
_VERSION = 2
_HEADER = struct.Struct("<3sBQ32s")
_HEAD = struct.Struct("<QI")  # when, how many tensors
_TENSOR = struct.Struct("<IBB")  # length of the name, length of the dtype, number of dimensions
_SIZE = struct.Struct("<Q")
_DTYPES = {order.str: order for dtype in DTYPES.values() for order in (dtype, dtype.newbyteorder())}


class Damaged(ValueError):
    """The value is not what `pack` made: shortened, changed, of another version, or never ours."""


def pack(key: bytes, outputs: TensorMap, made_at: float) -> bytes:
    """One value that `unpack` turns back into the same tensors and, to a millisecond, the same time (seconds
    since 1970); for this key only. TensorRejected for other dtypes."""
    parts = [_HEAD.pack(round(made_at * 1000), len(outputs))]
    for name, array in outputs.items():
        parts += _tensor_parts(name, array)
    digest = hashlib.sha256(key)
    for part in parts:
        digest.update(part)
    header = _HEADER.pack(_MAGIC, _VERSION, sum(map(len, parts)), digest.digest())
    return b"".join([header, *parts])


def unpack(key: bytes, value: bytes) -> tuple[TensorMap, float]:
    """The tensors in `value`, read-only, with the same bits, dtypes and shapes, and when they were made;
    Damaged for anything odd, such as the value of another key."""
    try:
        magic, version, length, digest = _HEADER.unpack_from(value)
        payload = memoryview(value)[_HEADER.size :]
        if (magic, version, length) != (_MAGIC, _VERSION, len(payload)):
            raise Damaged("the header is not of this version or length")
        computed = hashlib.sha256(key)
        computed.update(payload)
        if computed.digest() != digest:
            raise Damaged("the digest does not fit key and payload")
        made_at, tensors = _Reader(payload).all()
    except Damaged:
        raise
    except (struct.error, ValueError, TypeError, OverflowError, MemoryError) as err:
        raise Damaged(f"the value cannot be read: {err}") from err
    if len(dict(tensors)) != len(tensors):
        raise Damaged("a name occurs twice")
    return freeze(dict(tensors)), made_at


def _tensor_parts(name: str, array: Array) -> list[Any]:
    dtype_name(array)  # refuses what the protocol does not have
    is_object = array.dtype.hasobject
    content = b"".join(elements(array)) if is_object else raw(array)
    label = name.encode("utf-8", "surrogatepass")
    dtype = array.dtype.str.encode("ascii")
    return [
        _TENSOR.pack(len(label), len(dtype), array.ndim),
        label,
        dtype,
        b"".join(map(_SIZE.pack, array.shape)),
        _SIZE.pack(len(content)),
        content,
    ]


class _Reader:
    """Reads a payload from its start to its very end; whatever does not fit means that it lies."""

    def __init__(self, payload: memoryview) -> None:
        self._payload = payload
        self._at = 0

    def all(self) -> tuple[float, list[tuple[str, Array]]]:
        made_at, count = self._unpack(_HEAD)
        tensors = [self._tensor() for _ in range(count)]
        self._end()
        return made_at / 1000, tensors

    def objects(self, shape: tuple[int, ...]) -> Array:
        count = math.prod(shape)
        if count * ELEMENT.size > len(self._payload):
            raise Damaged("shape and length disagree")
        array = np.empty(count, dtype=object)
        for index in range(count):
            kind, length = self._unpack(ELEMENT)
            element = bytes(self._take(length))
            if kind not in (b"b", b"s"):
                raise Damaged("an element has no known type")
            array[index] = element if kind == b"b" else element.decode("utf-8", "surrogatepass")
        self._end()
        return array.reshape(shape)

    def _tensor(self) -> tuple[str, Array]:
        num_name, num_dtype, ndim = self._unpack(_TENSOR)
        name = str(self._take(num_name), "utf-8", "surrogatepass")
        dtype = _dtype(str(self._take(num_dtype), "ascii"))
        shape = tuple(self._unpack(_SIZE)[0] for _ in range(ndim))
        content = self._take(self._unpack(_SIZE)[0])
        if dtype.hasobject:
            return name, _Reader(content).objects(shape)
        if math.prod(shape) * dtype.itemsize != len(content):
            raise Damaged("shape and length disagree")
        return name, np.ndarray(shape, dtype, buffer=content)

    def _unpack(self, form: struct.Struct) -> tuple[Any, ...]:
        return form.unpack(self._take(form.size))

    def _take(self, length: int) -> memoryview:
        taken = self._payload[self._at : self._at + length]
        if len(taken) != length:
            raise Damaged("a length reaches past the end")
        self._at += length
        return taken

    def _end(self) -> None:
        if self._at != len(self._payload):
            raise Damaged("bytes follow the last part")


def _dtype(text: str) -> np.dtype[Any]:
    if text in _DTYPES:
        return _DTYPES[text]
    if text[:2] in ("|S", "<U", ">U") and text[2:].isdecimal():
        return np.dtype(text)
    raise Damaged("a dtype is unknown")
