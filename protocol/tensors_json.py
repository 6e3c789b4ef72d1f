"""JSON values <-> arrays. Loops over elements run in C, so that long lists stay cheap."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from headrace.errors import CallerError, TensorRejected
from headrace.tensors import DTYPES, Array
from protocol.limits import shown
from protocol.tensors_binary import dtype_of, num_elements, object_array, to_bytes

_ALLOWED: dict[str, tuple[frozenset[type], str]] = {  # by numpy kind
    "b": (frozenset({bool}), "true or false"),
    "i": (frozenset({int}), "integers"),
    "u": (frozenset({int}), "integers, 0 or more"),
    "f": (frozenset({int, float}), "numbers"),
    "O": (frozenset({str}), "strings (for other bytes use binary_data_size)"),
}


def from_json(name: str, dtype: str, shape: Sequence[int], data: list[Any]) -> Array:
    """The input `name` as an array of `shape`, from flat or evenly nested lists in row-major order.

    TensorRejected when the lists are ragged, have another number of elements than the shape, or
    hold a value that the dtype cannot: nothing is rounded to an integer, wrapped or made infinite.
    """
    where = f"input {shown(name)}"
    numpy_dtype = dtype_of(where, dtype)
    if dtype == "BF16":
        raise TensorRejected(f"{where} is BF16, which JSON does not carry; send it with binary_data_size")
    count = num_elements(shape, where)
    flat, kinds = _flatten(where, data)
    if len(flat) != count:
        raise TensorRejected(f"{where} has {len(flat)} elements; shape {shown(shape)} needs {count}")
    allowed, words = _ALLOWED[numpy_dtype.kind]
    if not kinds <= allowed:
        wrong = next(value for value in flat if type(value) not in allowed)
        raise TensorRejected(f"{where} is {dtype}, whose data must be {words}; got {shown(wrong)}")
    if numpy_dtype.kind == "O":
        return object_array(list(map(str.encode, flat))).reshape(shape)
    if numpy_dtype.kind == "b" or not flat:
        return np.array(flat, dtype=numpy_dtype).reshape(shape)
    convert = _floats if numpy_dtype.kind == "f" else _integers
    return convert(where, dtype, numpy_dtype, flat).reshape(shape)


def to_json(name: str, array: Array) -> Array | list[str]:
    """What `orjson` writes as the flat `data` of an output: a contiguous array, or strings for BYTES."""
    if array.dtype.kind in "OSU":
        try:
            return [item.decode() for item in to_bytes(array)]
        except UnicodeDecodeError as err:
            raise CallerError(
                f"output {shown(name)} holds bytes that are not UTF-8, which JSON cannot carry; "
                'ask for it with "binary_data": true'
            ) from err
    if array.dtype == DTYPES["BF16"]:
        raise CallerError(
            f'output {shown(name)} is BF16, which JSON does not carry; ask for it with "binary_data": true'
        )
    # orjson before 3.10.8 has no float16; as float32 its values stay the same.
    dtype = np.dtype(np.float32) if array.dtype == np.float16 else array.dtype.newbyteorder("=")
    return np.ascontiguousarray(array, dtype=dtype).reshape(-1)


def _flatten(where: str, data: list[Any]) -> tuple[list[Any], set[type]]:
    """The elements in row-major order, and which types they have."""
    kinds = set(map(type, data))
    while list in kinds:
        if len(kinds) > 1 or len(set(map(len, data))) > 1:
            raise TensorRejected(
                f"{where} has ragged data: lists at the same level must be equally long and hold only "
                "lists or only values; pad them, or send one flat list"
            )
        data = list(chain.from_iterable(data))
        kinds = set(map(type, data))
    return data, kinds


def _integers(where: str, dtype: str, numpy_dtype: np.dtype[Any], flat: list[int]) -> Array:
    info = np.iinfo(numpy_dtype)
    is_unsigned = dtype == "UINT64" and min(flat) >= 0
    try:
        wide = np.array(flat, dtype=np.uint64 if is_unsigned else np.int64)
        low, high = int(wide.min()), int(wide.max())
    except OverflowError:
        low, high = min(flat), max(flat)
    if low < info.min or high > info.max:
        wrong = low if low < info.min else high
        raise TensorRejected(f"{where} is {dtype} and holds {wrong}; allowed are {info.min} to {info.max}")
    return wide.astype(numpy_dtype, copy=False)


def _floats(where: str, dtype: str, numpy_dtype: np.dtype[Any], flat: list[float]) -> Array:
    try:
        wide = np.array(flat, dtype=np.float64)
    except OverflowError as err:
        raise TensorRejected(f"{where} is {dtype} and holds an integer beyond its range") from err
    with np.errstate(over="ignore"):
        narrow = wide.astype(numpy_dtype, copy=False)
    overflowed = np.isinf(narrow) & np.isfinite(wide)
    if overflowed.any():
        raise TensorRejected(
            f"{where} is {dtype} and holds {wide[overflowed][0]}; allowed are "
            f"-{np.finfo(numpy_dtype).max} to {np.finfo(numpy_dtype).max}"
        )
    return narrow
