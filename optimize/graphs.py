"""What is read out of an ONNX graph: its signature, its operators, the files it is made of."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from engines.external import external_files
from headrace.errors import ArtifactRejected, ConfigRejected
from headrace.tensors import Dim, Signature, TensorSpec

if TYPE_CHECKING:
    import onnx

_BATCH = re.compile(r"(?i)batch.*|n")
# ONNX's numbers for the datatypes of the protocol (onnx.TensorProto.DataType).
_DTYPES = {
    1: "FP32",
    2: "UINT8",
    3: "INT8",
    4: "UINT16",
    5: "INT16",
    6: "INT32",
    7: "INT64",
    8: "BYTES",
    9: "BOOL",
    10: "FP16",
    11: "FP64",
    12: "UINT32",
    13: "UINT64",
}


def signature_of(graph: onnx.GraphProto) -> Signature:
    """What a graph takes and gives, without bounds of values.

    Requests are stacked along the first dimension when it is called "batch"; one that the graph
    calls batch_size or N is renamed so.
    """
    constants = {tensor.name for tensor in graph.initializer}
    return Signature(
        inputs=tuple(_spec(value) for value in graph.input if value.name not in constants),
        outputs=tuple(_spec(value) for value in graph.output),
    )


def files_of(graph: Path) -> dict[str, Path]:
    """A graph and its external data, by their names; ConfigRejected when it reaches for other files."""
    beside = {entry.name for entry in graph.parent.iterdir() if entry.is_file()}
    try:
        weights = external_files(graph.read_bytes(), beside)
    except ArtifactRejected as err:
        raise ConfigRejected(f"model() of the recipe gave {graph.name!r}: {err}") from err
    return {name: graph.parent / name for name in (graph.name, *sorted(weights))}


def kinds(graph: onnx.GraphProto) -> Iterator[str]:
    """The operator of every node, those of subgraphs included."""
    for node in graph.node:
        yield node.op_type
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from kinds(inner)


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    if tensor.elem_type not in _DTYPES:
        raise ConfigRejected(f"'{value.name}' of the graph has a datatype that cannot be optimized")
    if not tensor.HasField("shape"):
        raise ConfigRejected(f"'{value.name}' of the graph has no shape; give one by signature()")
    dims = enumerate(tensor.shape.dim)
    return TensorSpec(value.name, _DTYPES[tensor.elem_type], tuple(_dim(value.name, i, d) for i, d in dims))


def _dim(tensor: str, index: int, dim: onnx.TensorShapeProto.Dimension) -> Dim:
    if dim.HasField("dim_value"):
        return int(dim.dim_value)
    if index == 0 and _BATCH.fullmatch(dim.dim_param):
        return "batch"
    return dim.dim_param or f"{tensor}_{index}"
