"""Stage 3 of static INT8: conversion, by ONNX Runtime's quantizer. And dynamic INT8, which has no stages.

For ONNX Runtime on x86: activations unsigned, weights signed (U8S8). For engines that read
symmetric ranges only (TensorRT, OpenVINO): both signed (S8S8).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engines.cpu import cpu_flags
from headrace.errors import ConfigRejected
from optimize.cut import put_in_order
from optimize.graphs import kinds

if TYPE_CHECKING:
    import onnx

# Without Gather an embedding table stays FP32: 59 MB instead of 23 for MiniLM.
TRANSFORMER = ("MatMul", "Gemm", "Gather")
LAYERS = ("Conv", "ConvTranspose", "MatMul", "Gemm")  # what has weights and takes the time
# Of a convnet also what carries values on from layer to layer. Not Mul, Softmax and Sigmoid: gates and
# norms lose much (PP-OCRv4 reads 0.65 of lines instead of 0.80), and ONNX Runtime 1.32 computes an INT8
# Mul wrongly beside convolutions in FP32 (0.04 of lines where Q/DQ in FP32 reads 0.35).
CONVNET = (
    *LAYERS,
    *("Add", "Relu", "LeakyRelu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool", "Resize", "Pad"),
    *("Concat", "Split", "Slice", "Gather", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"),
)
_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})


@dataclass(frozen=True, slots=True)
class Conversion:
    """How ranges become Q/DQ nodes."""

    per_channel: bool = True
    is_symmetric: bool = False  # S8S8 instead of U8S8
    reduce_range: bool = False  # weights in 7 bits: sums of U8S8 saturate on x86 without VNNI
    exclude: tuple[str, ...] = ()  # nodes that stay FP32
    only: tuple[str, ...] = ()  # if given, no other node is quantized
    quantizes_bias: bool = True  # to INT32, which TensorRT does not take


def op_types(graph: onnx.GraphProto) -> list[str]:
    """The operators to quantize: of a convnet all that carry INT8 on, of a transformer its products."""
    return list(CONVNET if _CONVOLUTIONS & set(kinds(graph)) else TRANSFORMER)


def layers(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes that multiply with constant weights."""
    constants = {tensor.name for tensor in graph.initializer}
    return [
        node
        for node in graph.node
        if node.op_type in LAYERS and any(name in constants for name in node.input[1:2])
    ]


def depthwise(graph: onnx.GraphProto) -> list[str]:
    """The convolutions with a filter for each channel: few weights, and much is lost in INT8."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    return [
        node.name
        for node in layers(graph)
        for part in node.attribute
        if node.op_type == "Conv" and part.name == "group" and shapes[node.input[1]][:2] == (part.i, 1)
    ]


def preprocess(source: Path, target: Path) -> None:
    """Constants folded, batch norms folded into convolutions, shapes inferred, every node named."""
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    # Symbolic inference would need sympy; ONNX's own shape inference is run in any case.
    quant_pre_process(source, target, skip_symbolic_shape=True)
    model = onnx.load(target)
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
    onnx.save(model, target)


def convert(
    source: Path | onnx.ModelProto, target: Path, ranges: Mapping[str, tuple[float, float]], how: Conversion
) -> tuple[int, int]:
    """`target`, the Q/DQ graph of a preprocessed one. How many of its layers are quantized, of how many.

    ConfigRejected when nothing is.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    model = onnx.load(source) if isinstance(source, Path) else source
    types = op_types(model.graph)
    all_layers = [node.name for node in layers(model.graph)]
    data = {
        name: TensorData(lowest=np.float32(low), highest=np.float32(high))
        for name, (low, high) in ranges.items()
    }
    signed, unsigned = QuantType.QInt8, QuantType.QUInt8
    quantizer = QDQQuantizer(
        model,
        how.per_channel,
        how.reduce_range,
        signed,
        signed if how.is_symmetric else unsigned,
        TensorsData(CalibrationMethod.MinMax, data),
        list(how.only),
        [*how.exclude, *_shifts(model.graph)],
        types,
        {
            "ActivationSymmetric": how.is_symmetric,
            "WeightSymmetric": True,
            "MatMulConstBOnly": True,
            "QuantizeBias": how.quantizes_bias,
            # An output in FP32 saves a rounding where the next operator computes in FP32 anyway, and
            # leaves classes apart that would fall on the same step of INT8.
            "OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"],
        },
    )
    quantizer.quantize_model()
    model = quantizer.model.model  # the quantizer works on a copy
    quantized = quantized_layers(model.graph)
    if not quantized & set(all_layers):
        raise ConfigRejected(f"the graph has no {', '.join(LAYERS)} with constant weights to quantize")
    put_in_order(model.graph)  # the quantizer appends its nodes, which ONNX's own checker refuses
    onnx.save(model, target)
    return len(quantized & set(all_layers)), len(all_layers)


def _shifts(graph: onnx.GraphProto) -> list[str]:
    """The additions of a constant. They stay FP32 as parts of norms and swishes, whose sums have ranges of
    their own; those of two activations carry INT8 on."""
    constants = {tensor.name for tensor in graph.initializer}
    return [node.name for node in graph.node if node.op_type == "Add" and constants & set(node.input)]


def quantized_layers(graph: onnx.GraphProto) -> set[str]:
    """The layers whose input comes out of a DequantizeLinear."""
    made = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    return {node.name for node in graph.node if node.op_type in LAYERS and node.input[0] in made}


def saturates() -> bool:
    """Whether this CPU's sums of U8S8 products saturate at 16 bits, as those of x86 without VNNI do:
    single answers are then far off, unless weights keep to 7 bits."""
    flags = set(cpu_flags())
    return "avx2" in flags and not flags & {"avx512_vnni", "avx_vnni", "amx_int8"}


def quantize_dynamic(
    source: Path, target: Path, per_channel: bool = True, reduce_range: bool | None = None
) -> Path:
    """`target`, an INT8 version of the ONNX file `source` that ONNX Runtime has loaded once.

    Weights are stored as INT8, activations are scaled at run time, so no calibration is needed.
    `reduce_range` keeps weights to 7 bits; None: where sums saturate.
    ConfigRejected when the graph has convolutions (dynamic INT8 makes them slower) or nothing
    that could be quantized.
    """
    import onnx
    import onnxruntime
    from onnxruntime import quantization

    found = set(kinds(onnx.load(source, load_external_data=False).graph))
    if convolutions := sorted(found & _CONVOLUTIONS):
        raise ConfigRejected(
            f"the graph has {convolutions[0]} nodes: dynamic INT8 makes convolutions slower (0.4x for "
            f"MobileNetV2 on ONNX Runtime); use int8-static, or serve this model as FP32"
        )
    quantization.quantize_dynamic(
        source,
        target,
        op_types_to_quantize=list(TRANSFORMER),
        per_channel=per_channel,
        reduce_range=saturates() if reduce_range is None else reduce_range,
        weight_type=quantization.QuantType.QInt8,
        extra_options={"MatMulConstBOnly": True},
    )
    made = set(kinds(onnx.load(target, load_external_data=False).graph))
    if "DequantizeLinear" not in made and "MatMulInteger" not in made:
        raise ConfigRejected(f"the graph has no {', '.join(TRANSFORMER)} with constant weights to quantize")
    onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    return target
