"""Dynamic INT8 for ONNX Runtime: weights stored as INT8, activations scaled at run time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.errors import ConfigRejected

if TYPE_CHECKING:
    import onnx

# Without Gather an embedding table stays FP32: 59 MB instead of 23 for MiniLM.
_QUANTIZED = ("MatMul", "Gemm", "Gather")
_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})


def quantize_dynamic(source: Path, target: Path, per_channel: bool = True) -> Path:
    """`target`, an INT8 version of the ONNX file `source` that ONNX Runtime has loaded once.

    ConfigRejected when the graph has convolutions (dynamic INT8 makes them slower) or nothing
    that could be quantized.
    """
    import onnx
    import onnxruntime
    from onnxruntime import quantization

    kinds = set(_kinds(onnx.load(source, load_external_data=False).graph))
    if convolutions := sorted(kinds & _CONVOLUTIONS):
        raise ConfigRejected(
            f"the graph has {convolutions[0]} nodes: dynamic INT8 makes convolutions slower (0.4x for "
            f"MobileNetV2 on ONNX Runtime); serve this model as FP32"
        )
    quantization.quantize_dynamic(
        source,
        target,
        op_types_to_quantize=list(_QUANTIZED),
        per_channel=per_channel,
        weight_type=quantization.QuantType.QInt8,
        extra_options={"MatMulConstBOnly": True},
    )
    made = set(_kinds(onnx.load(target, load_external_data=False).graph))
    if "DequantizeLinear" not in made and "MatMulInteger" not in made:
        raise ConfigRejected(f"the graph has no {', '.join(_QUANTIZED)} with constant weights to quantize")
    onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    return target


def _kinds(graph: onnx.GraphProto) -> Iterator[str]:
    """The operator of every node, those of subgraphs included."""
    for node in graph.node:
        yield node.op_type
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _kinds(inner)
