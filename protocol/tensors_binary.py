"""Raw bytes <-> arrays, as the binary extension of the protocol lays them out.

Fixed-width elements are little-endian in row-major order. A BYTES element is its length
(4 bytes, little-endian, unsigned) and then that many bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from headrace.errors import EngineFailed, TensorRejected
from headrace.tensors import DTYPES, Array
from protocol.limits import shown

_MOST_ELEMENTS = 1 << 59  # numpy holds byte counts in 63 bits and an element has up to 8 bytes
_LENGTH = struct.Struct("<I")


def dtype_of(where: str, datatype: str) -> np.dtype[Any]:
    """The numpy dtype of a protocol datatype; TensorRejected, naming `where`, for an unknown one."""
    dtype = DTYPES.get(datatype)
    if dtype is None:
        raise TensorRejected(
            f"{where} has datatype {shown(datatype)}, which is not supported; allowed: {', '.join(DTYPES)}"
        )
    return dtype


def num_elements(shape: Sequence[object], where: str = "the tensor") -> int:
    """How many elements a declared shape has; TensorRejected, naming `where`, for an impossible one."""
    count, room = 1, 1
    for dim in shape:
        if type(dim) is not int or dim < 0:
            raise TensorRejected(
                f"{where} has shape {shown(shape)}; each dimension must be an integer, 0 or more"
            )
        count *= dim
        room *= dim or 1  # an empty array must have strides that fit, too
    if room > _MOST_ELEMENTS:
        raise TensorRejected(
            f"{where} has shape {shown(shape)}; at most {_MOST_ELEMENTS} elements are allowed"
        )
    return count


def from_raw(name: str, dtype: str, shape: Sequence[int], data: memoryview) -> Array:
    """The input `name` as an array of `shape`.

    Fixed-width types are a read-only view of `data`, at whatever alignment `data` has; BYTES is
    an object array of `bytes`. TensorRejected when the data does not fill the shape exactly.
    """
    where = f"input {shown(name)}"
    numpy_dtype = dtype_of(where, dtype)
    count = num_elements(shape, where)
    if dtype == "BYTES":
        if 4 * count > len(data):
            raise TensorRejected(
                f"{where} has {len(data)} bytes; BYTES of shape {shown(shape)} has at least {4 * count}, "
                "since a 4-byte length precedes each element"
            )
        return object_array(_split(where, count, data)).reshape(shape)
    if count * numpy_dtype.itemsize != len(data):
        raise TensorRejected(
            f"{where} has {len(data)} bytes; {dtype} of shape {shown(shape)} "
            f"needs {count * numpy_dtype.itemsize}"
        )
    if count == 0:
        return np.empty(shape, dtype=numpy_dtype)
    if dtype == "BOOL" and (highest := int(np.frombuffer(data, np.uint8).max())) > 1:
        raise TensorRejected(f"{where} is BOOL and holds the byte {highest}; allowed are 0 and 1")
    return np.frombuffer(data, numpy_dtype).reshape(shape)


def to_raw(array: Array) -> bytes | memoryview:
    """The array's bytes in the protocol's layout; a view when it is contiguous already."""
    if array.dtype.kind in "OSU":
        return b"".join(part for item in to_bytes(array) for part in (_LENGTH.pack(len(item)), item))
    if array.size == 0:
        return b""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return little.reshape(-1).view(np.uint8).data


def object_array(items: list[bytes]) -> Array:
    """A BYTES tensor of one dimension."""
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


def to_bytes(array: Array) -> list[bytes]:
    """The elements of a BYTES array, row by row; text becomes UTF-8."""
    return [_to_bytes(item) for item in array.reshape(-1).tolist()]


def _to_bytes(item: object) -> bytes:
    if isinstance(item, bytes):
        return item
    if isinstance(item, str):
        return item.encode("utf-8", "surrogatepass")
    raise EngineFailed(f"a BYTES tensor holds a {type(item).__name__}; the engine must give bytes or text")


def _split(where: str, count: int, data: memoryview) -> list[bytes]:
    """The `count` length-prefixed elements of `data`, which they must fill exactly."""
    items: list[bytes] = []
    at, end = 0, len(data)
    for index in range(count):
        start = at + 4
        if start > end:
            raise TensorRejected(f"{where} ends before the length of element {index} of {count}")
        at = start + _LENGTH.unpack_from(data, start - 4)[0]
        if at > end:
            raise TensorRejected(
                f"{where}: element {index} claims {at - start} bytes; {end - start} are left"
            )
        items.append(bytes(data[start:at]))
    if at != end:
        raise TensorRejected(
            f"{where} has {end - at} bytes after its last element ({count} elements declared)"
        )
    return items
