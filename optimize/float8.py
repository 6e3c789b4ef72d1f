"""FP8 (E4M3) for GPUs from compute capability 8.9 on: the Q/DQ graph of symmetric INT8 with other numbers.

Three bits of mantissa, four of exponent: coarser than INT8 near a range's end, finer near zero, so ranges
need no clipping and are those of the values seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engines.manifest import SessionOptions
from headrace.errors import ConfigRejected
from headrace.tensors import Array
from optimize.quantize import Conversion, convert

if TYPE_CHECKING:
    import onnx

PRECISION = "fp8-static"
LARGEST = 448.0  # that E4M3 holds
# Beyond "basic" ONNX Runtime 1.32 takes FP8 for INT8 in some operators, and answers are wrong.
SESSION = SessionOptions(graph_optimization="basic")
_INT8_LARGEST = 127.0
_OPSET, _IR = 19, 9  # the first that have FP8
_QUANTIZED = "_quantized"  # how ONNX Runtime's quantizer names a weight that was made of another
_PAIR = ("QuantizeLinear", "DequantizeLinear")


def convert_to_fp8(
    source: Path, target: Path, ranges: Mapping[str, tuple[float, float]], per_channel: bool = True
) -> tuple[int, int]:
    """`target`, the FP8 graph of a preprocessed one. How many of its layers are quantized, of how many.

    ConfigRejected when nothing is, or when the graph's opset has no FP8.
    """
    import onnx

    exact = onnx.load(source)
    opset = max((entry.version for entry in exact.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    if opset < _OPSET:
        raise ConfigRejected(f"FP8 needs opset {_OPSET}, and the graph has {opset}; export the model anew")
    how = Conversion(per_channel, is_symmetric=True, quantizes_bias=False)
    counts = convert(exact, target, ranges, how)
    model = onnx.load(target)
    _change(model.graph, {tensor.name: tensor for tensor in exact.graph.initializer})
    model.ir_version = max(model.ir_version, _IR)
    onnx.save(model, target)
    return counts


def has_fp8(graph: onnx.GraphProto) -> bool:
    """Whether it holds numbers in FP8 of any kind."""
    from onnx import TensorProto

    types = {
        TensorProto.FLOAT8E4M3FN,
        TensorProto.FLOAT8E4M3FNUZ,
        TensorProto.FLOAT8E5M2,
        TensorProto.FLOAT8E5M2FNUZ,
    }
    return any(tensor.data_type in types for tensor in graph.initializer)


def _change(graph: onnx.GraphProto, exact: Mapping[str, onnx.TensorProto]) -> None:
    """Scales for FP8, zero points in it, weights rounded once, from what they were in FP32."""
    from ml_dtypes import float8_e4m3fn
    from onnx.numpy_helper import to_array

    initializers = {tensor.name: tensor for tensor in graph.initializer}
    pairs = [node for node in graph.node if node.op_type in _PAIR]
    for name in {node.input[1] for node in pairs}:
        _put(
            initializers[name], (to_array(initializers[name]) * (_INT8_LARGEST / LARGEST)).astype(np.float32)
        )
    for name in {node.input[2] for node in pairs}:
        _put(initializers[name], to_array(initializers[name]).astype(float8_e4m3fn))
    for node in pairs:
        name = node.input[0]
        if name in initializers:
            value = to_array(exact[name.removesuffix(_QUANTIZED)])
            scale = _along(node, to_array(initializers[node.input[1]]), value.ndim)
            rounded = np.clip(value / scale, -LARGEST, LARGEST).astype(float8_e4m3fn)
            _put(initializers[name], rounded)


def _along(node: onnx.NodeProto, scale: Array, ndim: int) -> Array:
    """The scale of each channel, beside the weights that it is for."""
    if scale.ndim == 0:
        return scale
    axis = next((part.i for part in node.attribute if part.name == "axis"), 1)
    return scale.reshape([-1 if number == axis % ndim else 1 for number in range(ndim)])


def _put(tensor: onnx.TensorProto, value: Array) -> None:
    from onnx.numpy_helper import from_array

    tensor.CopyFrom(from_array(value, tensor.name))
