"""Array <-> bytes: what both the key and the envelope are made of."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from headrace.errors import TensorRejected
from headrace.tensors import Array, TensorMap

ELEMENT = struct.Struct("<cQ")  # in front of each BYTES element: its type, its length in bytes


def raw(array: Array) -> memoryview:
    """The bytes of an array in C order, (nbytes,) uint8: a view where it is contiguous, else a copy."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def elements(array: Array) -> Iterator[bytes]:
    """Each element of a BYTES array in C order, after its type and length; TensorRejected for others.

    `bytes` and `str` are told apart: an engine may answer them differently.
    """
    for element in array.reshape(-1).tolist():
        if isinstance(element, bytes):
            yield ELEMENT.pack(b"b", len(element))
            yield element
        elif isinstance(element, str):
            text = element.encode("utf-8", "surrogatepass")
            yield ELEMENT.pack(b"s", len(text))
            yield text
        else:
            raise TensorRejected(f"a BYTES tensor holds {type(element).__name__}; allowed: bytes, str")


def freeze(tensors: TensorMap) -> dict[str, Array]:
    """The same tensors as read-only arrays that own their memory, so that none keeps a whole batch alive."""
    return {name: _freeze(array) for name, array in tensors.items()}


def _freeze(array: Array) -> Array:
    if array.base is None and not array.flags.writeable:
        return array
    frozen = np.array(array, order="C")
    frozen.setflags(write=False)
    return frozen
