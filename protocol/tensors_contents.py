"""The typed contents of a gRPC tensor -> an array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from headrace.errors import TensorRejected
from headrace.tensors import Array
from protocol.limits import shown
from protocol.tensors_binary import dtype_of, num_elements, object_array

_FIELDS = {  # where the elements of each datatype are; FP16 and BF16 have no field, they travel raw
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
# As wide as the field is: narrower integers are checked before they are cut.
_WIDE = {"int_contents": np.dtype(np.int32), "uint_contents": np.dtype(np.uint32)}


def from_contents(where: str, datatype: str, shape: Sequence[int], contents: Any) -> Array:
    """The array of `shape` in an InferTensorContents message; no field stands for no elements.

    TensorRejected, naming `where`, when another datatype's field is filled, the number of elements is not
    that of the shape, or an integer is outside its datatype.
    """
    dtype = dtype_of(where, datatype)
    field = _FIELDS.get(datatype)
    if field is None:
        raise TensorRejected(
            f"{where} is {datatype}, which has no typed contents; send it as raw_input_contents"
        )
    for other, _ in contents.ListFields():
        if other.name != field:
            raise TensorRejected(f"{where} is {datatype} and has {other.name}; its elements go into {field}")
    values = getattr(contents, field)
    count = num_elements(shape, where)
    if len(values) != count:
        raise TensorRejected(
            f"{where} has {len(values)} elements in {field}; shape {shown(shape)} needs {count}"
        )
    if datatype == "BYTES":
        return object_array(list(values)).reshape(shape)
    wide = np.fromiter(values, _WIDE.get(field, dtype), count)
    return _narrow(where, datatype, dtype, wide).reshape(shape)


def _narrow(where: str, datatype: str, dtype: np.dtype[Any], wide: Array) -> Array:
    if wide.dtype == dtype:
        return wide
    info = np.iinfo(dtype)
    if wide.size and (wide.min() < info.min or wide.max() > info.max):
        wrong = wide.min() if wide.min() < info.min else wide.max()
        raise TensorRejected(f"{where} is {datatype} and holds {wrong}; allowed are {info.min} to {info.max}")
    return wide.astype(dtype)
