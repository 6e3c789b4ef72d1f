"""BF16 in and out of ONNX Runtime, whose own conversion knows only what numpy has itself."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from headrace.tensors import DTYPES, Array, Signature

if TYPE_CHECKING:
    import onnxruntime

_BF16 = DTYPES["BF16"]
_ONNX_BF16 = 16  # onnx.TensorProto.BFLOAT16


def has_bf16(signature: Signature) -> bool:
    return any(spec.dtype == "BF16" for spec in (*signature.inputs, *signature.outputs))


def run_bf16(
    session: onnxruntime.InferenceSession, outputs: Sequence[str], feed: Mapping[str, Array]
) -> list[Array]:
    """What `session.run` gives, for models with BF16 tensors; inputs are contiguous and no text."""
    values = {name: _value(array) for name, array in feed.items()}
    return [_array(value) for value in session.run_with_ort_values(list(outputs), values)]


def _value(array: Array) -> onnxruntime.OrtValue:
    """A view of the array, which it keeps alive."""
    from onnxruntime import OrtValue

    if array.dtype == _BF16:
        return OrtValue.ortvalue_from_numpy_with_onnx_type(array.view(np.uint16), _ONNX_BF16)
    return OrtValue.ortvalue_from_numpy(array)


def _array(value: onnxruntime.OrtValue) -> Array:
    if value.element_type() != _ONNX_BF16:
        found: Array = value.numpy()
        return found
    shape = value.shape()
    array = np.empty(shape, _BF16)
    if array.size:  # an empty tensor has no address
        ctypes.memmove(array.ctypes.data, value.data_ptr(), array.nbytes)
    return array
