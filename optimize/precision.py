"""Half precision: computed where an engine can, stored only where it cannot."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from headrace.errors import ConfigRejected
from headrace.tensors import Array
from optimize.cut import put_in_order

if TYPE_CHECKING:
    import onnx

_FLOAT = 1  # of onnx.TensorProto
_SMALL = 256  # elements: what is smaller saves nothing
_ROUNDING = 2.0**-11  # of FP16, relative to a tensor's largest value
# What OpenVINO computes with faster than in FP32; without avx512_bf16 it makes BF16 up out of FP32.
NEEDED = {"fp16": {"avx512_fp16", "amx_fp16", "asimdhp"}, "bf16": {"avx512_bf16", "amx_bf16"}}


def can_compute(precision: str, engine: str, flags: Collection[str]) -> str:
    """Nothing when the engine computes in this precision on a CPU with these flags, else why not."""
    told = precision.upper()
    if engine == "tensorrt":
        return ""
    if engine != "openvino":
        return f"ONNX Runtime has next to no CPU kernels in {told}, it would convert to FP32 and back"
    if not NEEDED[precision].intersection(flags):
        return f"this CPU has no {told} arithmetic ({' or '.join(sorted(NEEDED[precision]))})"
    return ""


def store_fp16(source: Path, target: Path) -> Path:
    """`target`, with FP32 weights stored as FP16 behind a Cast that engines fold when they load it.

    Half the size, the same speed. A tensor that FP16 cannot hold as exactly as its largest value stays
    FP32: one with values beyond 65,504, or with none but tiny ones. ConfigRejected when all do.
    """
    import onnx

    model = onnx.load(source)
    graph = model.graph
    taken = _names(graph)
    casts = []
    for tensor in graph.initializer:
        value = onnx.numpy_helper.to_array(tensor) if tensor.data_type == _FLOAT else np.empty(0)
        if value.size < _SMALL or not _fits(value):
            continue
        name = tensor.name
        half = next(h for n in range(len(taken) + 1) if (h := f"{name}_fp16{'_' * n}") not in taken)
        tensor.CopyFrom(onnx.numpy_helper.from_array(value.astype(np.float16), half))
        casts.append(onnx.helper.make_node("Cast", [half], [name], name=f"{half}_cast", to=_FLOAT))
    if not casts:
        raise ConfigRejected(
            f"the graph has no FP32 weights of {_SMALL} elements or more that FP16 could hold; use "
            f"int8-static or int8-dynamic"
        )
    _put_first(graph, casts)
    model.ir_version = max(model.ir_version, 4)  # before, weights had to be inputs, too
    onnx.save(model, target)
    return target


def to_half(source: Path, target: Path, precision: str = "fp16") -> Path:
    """`target`, which computes in FP16 or BF16 between inputs and outputs of the types they had.

    Operators without kernels in it stay FP32 between Casts, and what is quantized stays so.
    """
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = onnx.load(source)
    exact = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.data_type == _FLOAT
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # constants such as 1e-12 become FP16's least value: told of each
        model = convert_float_to_float16(model, keep_io_types=True)
    if precision == "bf16":
        _to_bf16(model.graph, exact)
    put_in_order(model.graph)  # the casts were appended
    onnx.save(model, target)
    return target


def _to_bf16(graph: onnx.GraphProto, exact: Mapping[str, Array]) -> None:
    """BF16 wherever there is FP16 now; weights are rounded once, from what they were in FP32."""
    import ml_dtypes
    import onnx

    half, brain = onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16

    def change(tensor: onnx.TensorProto) -> None:
        if tensor.data_type == half:
            value = exact.get(tensor.name, onnx.numpy_helper.to_array(tensor))
            tensor.CopyFrom(onnx.numpy_helper.from_array(value.astype(ml_dtypes.bfloat16), tensor.name))

    for tensor in graph.initializer:
        change(tensor)
    for part in (part for node in graph.node for part in node.attribute):
        change(part.t)
        if part.name == "to" and part.i == half:
            part.i = brain
        for inner in (part.g, *part.graphs):
            _to_bf16(inner, exact)
    for value in (*graph.value_info, *graph.input, *graph.output):  # of the whole graph these are FP32
        if value.type.tensor_type.elem_type == half:
            value.type.tensor_type.elem_type = brain


def _fits(value: Array) -> bool:
    """Whether FP16 rounds every element by no more than it rounds the largest."""
    with np.errstate(over="ignore", invalid="ignore"):
        change = np.abs(value.astype(np.float16).astype(np.float32) - value).max()
        return bool(change <= _ROUNDING * np.abs(value).max())


def _names(graph: onnx.GraphProto) -> set[str]:
    made = {name for node in graph.node for name in node.output}
    return made | {value.name for value in (*graph.input, *graph.initializer)}


def _put_first(graph: onnx.GraphProto, casts: list[onnx.NodeProto]) -> None:
    """The casts before all nodes; what they make is no input any more."""
    made = {cast.output[0] for cast in casts}
    nodes, inputs = list(graph.node), [value for value in graph.input if value.name not in made]
    del graph.node[:], graph.input[:]
    graph.node.extend([*casts, *nodes])
    graph.input.extend(inputs)
