"""Half precision: computed where an engine can, stored only where it cannot."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

_FLOAT, _FLOAT16 = 1, 10  # of onnx.TensorProto
_LARGEST = 65504.0  # of FP16
_SMALL = 256  # elements: what is smaller saves nothing
# What a CPU needs to compute in it faster than in FP32.
_NEEDED = {"fp16": {"avx512_fp16", "amx_fp16", "asimdhp"}, "bf16": {"avx512_bf16", "amx_bf16", "bf16"}}


def can_compute(precision: str, engine: str, flags: Collection[str]) -> str:
    """Nothing when the engine computes in this precision on a CPU with these flags, else why not."""
    if engine == "tensorrt":
        return ""
    if engine == "onnxruntime":
        return f"ONNX Runtime's CPU provider computes {precision.upper()} slower than FP32"
    if not _NEEDED[precision] & set(flags):
        return f"this CPU has no {precision.upper()} arithmetic ({' or '.join(sorted(_NEEDED[precision]))})"
    return ""


def store_fp16(source: Path, target: Path) -> Path:
    """`target`, with FP32 weights stored as FP16 behind a Cast that engines fold when they load it.

    Half the size, the same speed. Weights beyond FP16's range stay as they are.
    """
    import onnx

    model = onnx.load(source)
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != _FLOAT:
            continue
        value = onnx.numpy_helper.to_array(tensor)
        if value.size < _SMALL or not np.abs(value).max() <= _LARGEST:
            continue
        name, half = tensor.name, f"{tensor.name}_fp16"
        tensor.CopyFrom(onnx.numpy_helper.from_array(value.astype(np.float16), half))
        casts.append(onnx.helper.make_node("Cast", [half], [name], name=f"{name}_cast", to=_FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    _drop_infos(model.graph)
    onnx.save(model, target)
    return target


def to_fp16(source: Path, target: Path) -> Path:
    """`target`, which computes in FP16 between inputs and outputs of the types they had."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), target)
    return target


def _drop_infos(graph: onnx.GraphProto) -> None:
    """Notes on inner tensors that may not be true any more."""
    del graph.value_info[:]
