"""Arrays that find out what a way there and back does to the bits."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from headrace.tensors import DTYPES, FLOATS, Array

TEXTS = [b"", b"a", "gr\u00fc\u00df\u2713".encode(), b'"[{\\', b"", b"\0"]


def example(dtype: str, shape: tuple[int, ...]) -> Array:
    """An array with the extremes of its datatype, finite ones only."""
    array = np.empty(6, DTYPES[dtype])
    values = _extremes(dtype)
    array[:] = (values * 6)[:6]
    return np.resize(array, shape) if np.prod(shape) else np.empty(shape, DTYPES[dtype])


def any_bits(dtype: str, shape: tuple[int, ...], seed: int = 0) -> Array:
    """An array of random bits: NaNs with payloads, subnormal numbers, all of it."""
    if dtype in ("BYTES", "BOOL"):
        return example(dtype, shape)
    size = int(np.prod(shape)) * DTYPES[dtype].itemsize
    content = np.random.default_rng(seed).bytes(size)
    return np.frombuffer(content, DTYPES[dtype]).reshape(shape) if size else np.empty(shape, DTYPES[dtype])


def same_bits(left: Array, right: Array) -> bool:
    """True for the same shape, datatype and bits; text may be bytes on one side and str on the other."""
    if left.shape != right.shape or (left.dtype != right.dtype and left.dtype.kind not in "OS"):
        return False
    if left.dtype.kind in "OS":
        return _texts(left) == _texts(right)
    return left.tobytes() == right.tobytes()


def _extremes(dtype: str) -> list[Any]:
    if dtype == "BYTES":
        return TEXTS
    if dtype == "BOOL":
        return [True, False]
    if dtype in FLOATS:
        info = ml_dtypes.finfo(DTYPES[dtype])  # numpy's own does not know BF16
        return [info.max, -0.0, info.smallest_subnormal, 0.1, info.min, info.eps]
    whole = np.iinfo(DTYPES[dtype])
    return [whole.max, whole.min, 0, 1, whole.max - 1, whole.min + 1]


def _texts(array: Array) -> list[bytes]:
    return [item.encode() if isinstance(item, str) else bytes(item) for item in array.reshape(-1).tolist()]
