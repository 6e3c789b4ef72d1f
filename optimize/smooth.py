"""SmoothQuant (Xiao et al. 2022): large activations made smaller, the weights behind them larger.

Column j of an activation X before a MatMul with constant weights W is divided by
s_j = max|X_j|^alpha / max|W_j|^(1-alpha), and row j of W multiplied by it: the product is the same,
and X needs fewer steps for its outliers. Where X comes out of a layer norm the division is folded
into its scale and shift, elsewhere it is one Mul.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from headrace.tensors import Array
from optimize.calibrate import Statistics

if TYPE_CHECKING:
    import onnx

_LEAST = 1e-5


def smooth(source: Path, target: Path, found: Statistics, alpha: float) -> int:
    """`target`, which computes what `source` does; the number of products that were smoothed."""
    import onnx

    model = onnx.load(source)
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    groups: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in constants and node.input[0] not in constants:
            groups[node.input[0]].append(node)
    uses = _uses(graph)
    count = 0
    for activation, nodes in groups.items():
        columns = found.columns.get(activation)
        weights = [onnx.numpy_helper.to_array(constants[node.input[1]]) for node in nodes]
        if columns is None or any(w.ndim != 2 or w.shape[0] != len(columns) for w in weights):
            continue
        scales = _scales(columns, weights, alpha)
        for node, weight in zip(nodes, weights, strict=True):
            # A weight that others use, too, stays as it is for them.
            name = f"{node.input[1]}_smooth_{count}"
            graph.initializer.append(onnx.numpy_helper.from_array(weight * scales[:, None], name))
            node.input[1] = name
            count += 1
        _divide(graph, activation, nodes, scales, folds=len(nodes) == uses[activation])
    _drop_unused(graph)
    onnx.save(model, target)
    return count


def _scales(columns: Array, weights: list[Array], alpha: float) -> Array:
    rows = np.max([np.abs(weight).max(axis=1) for weight in weights], axis=0)
    scales = np.maximum(columns, _LEAST) ** alpha / np.maximum(rows, _LEAST) ** (1 - alpha)
    found: Array = np.maximum(scales, _LEAST).astype(np.float32)
    return found


def _divide(
    graph: onnx.GraphProto, activation: str, nodes: list[onnx.NodeProto], scales: Array, folds: bool
) -> None:
    """Divide the activation by the scales, for these nodes only."""
    import onnx

    producer = next((node for node in graph.node if activation in node.output), None)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    if (
        folds
        and producer is not None
        and producer.op_type == "LayerNormalization"
        and all(name in constants for name in producer.input[1:])
    ):
        for number, name in enumerate(producer.input[1:], 1):
            value = onnx.numpy_helper.to_array(constants[name]) / scales
            folded = f"{activation}_smooth_norm_{number}"
            graph.initializer.append(onnx.numpy_helper.from_array(value.astype(np.float32), folded))
            producer.input[number] = folded
        return
    name = f"{activation}_smooth"
    graph.initializer.append(onnx.numpy_helper.from_array((1 / scales).astype(np.float32), f"{name}_by"))
    node = onnx.helper.make_node("Mul", [activation, f"{name}_by"], [name], name=f"{name}_mul")
    outputs = {other.output[0] for other in nodes}
    place = min(number for number, other in enumerate(graph.node) if other.output[0] in outputs)
    graph.node.insert(place, node)
    for other in nodes:
        other.input[0] = name


def _uses(graph: onnx.GraphProto) -> dict[str, int]:
    uses: dict[str, int] = defaultdict(int)
    for node in graph.node:
        for name in node.input:
            uses[name] += 1
    for value in graph.output:
        uses[value.name] += 1
    return uses


def _drop_unused(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    used |= {value.name for value in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
