"""Weights that an ONNX graph keeps in other files: only files of its own version are let in."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

from headrace.errors import ArtifactRejected

if TYPE_CHECKING:
    import onnx


def external_files(graph: bytes, allowed: Collection[str]) -> set[str]:
    """The files that `graph` (an ONNX model) takes weights from.

    ArtifactRejected when one is not in `allowed`; as those are plain names, an absolute path, a "..",
    and the runtime's own notation for memory addresses are all refused by the same comparison.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.ModelProto.FromString(graph)
    except DecodeError as err:
        raise ArtifactRejected("the graph is not an ONNX model") from err
    found = set()
    for tensor in _tensors(model):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        locations = [entry.value for entry in tensor.external_data if entry.key == "location"]
        if len(locations) != 1 or locations[0] not in allowed:
            raise ArtifactRejected(f"the graph takes weights from {locations}, which is no file of its own")
        found.add(locations[0])
    return found


def _tensors(message: Any) -> Iterator[onnx.TensorProto]:
    """Every tensor of a model, wherever it is nested: initializers, attributes, subgraphs, functions."""
    if message.DESCRIPTOR.name == "TensorProto":
        yield message
        return
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for part in [value] if hasattr(value, "ListFields") else value:
                yield from _tensors(part)
