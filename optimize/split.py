"""One model cut at a tensor into backbone and head, so that the backbone's answers can be kept and shared."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engines.artifact import Artifact, Repository
from engines.examples import example_inputs
from headrace.errors import ConfigRejected
from headrace.tensors import Array, Dim, Signature, TensorMap, TensorSpec
from optimize import cut
from optimize.cut import LIST
from optimize.graphs import files_of, signature_of
from optimize.publish import check_model_name, next_version
from optimize.recipe import Predict

if TYPE_CHECKING:
    import onnx

_LARGEST_FILE = 1_500_000_000  # bytes; a protobuf ends at 2 GB
_LARGEST_CHANGE = 1e-5  # of an output, relative to its largest value: fusions end at the cut


def cut_points(graph: Path) -> list[str]:
    """Every tensor that alone leads from the inputs to the outputs, in the order of computation."""
    return cut.cut_points(_ordered(graph, with_weights=False).graph)


def split(graph: Path, at: str, backbone: Path, head: Path) -> None:
    """Write the part of a graph that ends with the tensor `at`, and the part that begins with it.

    What depends on constants only goes to each part that needs it. ConfigRejected, with nothing
    written, when there is no such tensor or when the head would need another one, too.
    """
    model = _ordered(graph)
    cut.check_cut(model.graph, at)
    value = _typed(_ordered(graph, with_weights=False), at)
    constants = cut.constants(model.graph)
    inputs = [given for given in model.graph.input if given.name not in constants]
    _save(cut.part_of(model, inputs, [value]), backbone)
    _save(cut.part_of(model, [value], list(model.graph.output)), head)


def check_split(whole: Path, backbone: Path, head: Path, rows: Iterable[TensorMap]) -> None:
    """ConfigRejected unless head after backbone answers each of `rows` as the whole does.

    Bit by bit when ONNX Runtime computes the graphs as they are; within 1e-5 of an output's largest
    value when it fuses nodes, which it cannot do across the cut.
    """
    inputs = list(rows)
    for level, allowed in (("ORT_DISABLE_ALL", 0.0), ("ORT_ENABLE_ALL", _LARGEST_CHANGE)):
        first, second, third = (_answers(path, level) for path in (whole, backbone, head))
        for row in inputs:
            wanted, found = first(row), third(second(row))
            for name, array in wanted.items():
                if (change := _change(array, found[name])) > allowed:
                    how = "with its optimizations" if allowed else "without any optimization"
                    raise ConfigRejected(
                        f"cut in two, the model gives other answers: '{name}' changes by {change:.2g} of its "
                        f"largest value in ONNX Runtime {how} (allowed: {allowed:g}); cut at another tensor"
                    )


def split_artifact(
    repository: Repository, name: str, version: str, at: str, backbone_name: str, head_name: str
) -> tuple[Artifact, Artifact]:
    """Backbone and head of a version, each published as the next version of the model with that name.

    They have answered made-up inputs of the version's warm-up sizes as the whole does. Limits and
    bounds of its inputs are the backbone's, too.
    """
    names = (backbone_name, head_name)
    _check_names(names)
    source = repository.open(name, version)
    with tempfile.TemporaryDirectory() as folder:
        graphs = Path(folder, "backbone.onnx"), Path(folder, "head.onnx")
        split(source.graph_path, at, *graphs)
        signatures = _signatures(source, at, graphs[0])
        check_split(source.graph_path, *graphs, _made_up(source))
        backbone, head = (
            _publish(repository, source, part, graph, signature)
            for part, graph, signature in zip(names, graphs, signatures, strict=True)
        )
    return backbone, head


def _ordered(graph: Path, with_weights: bool = True) -> onnx.ModelProto:
    import onnx

    model = onnx.load(graph, load_external_data=with_weights)
    cut.put_in_order(model.graph)
    return model


def _typed(model: onnx.ModelProto, name: str) -> onnx.ValueInfoProto:
    """What is known of an inner tensor, by ONNX's inference of shapes."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    value: onnx.ValueInfoProto
    for value in inferred.graph.value_info:
        tensor = value.type.tensor_type
        if value.name == name and tensor.elem_type and tensor.HasField("shape"):
            return value
    raise ConfigRejected(f"ONNX cannot tell the type and shape of '{name}'; cut at another tensor: {LIST}")


def _save(model: onnx.ModelProto, path: Path) -> None:
    import onnx

    if model.ByteSize() < _LARGEST_FILE:
        onnx.save(model, path)
    else:
        onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data")


def _answers(graph: Path, level: str) -> Predict:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.intra_op_num_threads = 1  # sums in one order
    options.log_severity_level = 3  # errors
    try:
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as err:
        raise ConfigRejected(
            f"ONNX Runtime cannot load the model or a part of it ({type(err).__name__}); cut elsewhere"
        ) from err
    names = [node.name for node in session.get_outputs()]
    known = {node.name for node in session.get_inputs()}

    def predict(inputs: TensorMap) -> TensorMap:
        feed = {name: array for name, array in inputs.items() if name in known}
        return dict(zip(names, session.run(names, feed), strict=True))

    return predict


def _change(wanted: Array, found: Array) -> float:
    """The largest change relative to the largest value; 0 only for the same bits, inf for another shape."""
    if wanted.shape != found.shape or wanted.dtype != found.dtype:
        return np.inf
    if np.array_equal(wanted, found) or (wanted.dtype != object and wanted.tobytes() == found.tobytes()):
        return 0.0
    if wanted.dtype.kind != "f" or not np.array_equal(np.isfinite(wanted), np.isfinite(found)):
        return np.inf
    first, second = (np.where(np.isfinite(array), array, 0).astype(np.float64) for array in (wanted, found))
    return float(np.abs(first - second).max() / max(np.abs(first).max(), np.finfo(np.float32).tiny))


def _made_up(source: Artifact) -> Iterator[TensorMap]:
    """Inputs of every warm-up size: one of the lowest values, and two of random ones."""
    manifest = source.manifest
    for sizes in manifest.warm_up or ({"batch": 2},):
        for seed in (None, 0, 1):
            yield example_inputs(manifest.signature, sizes, seed)


def _signatures(source: Artifact, at: str, backbone: Path) -> tuple[Signature, Signature]:
    """Those of backbone and head, with the names of dimensions that the version's signature has."""
    import onnx

    whole = source.manifest.signature
    found = signature_of(onnx.load(backbone, load_external_data=False).graph)
    names = _names(found, whole)
    (made,) = found.outputs
    dims = tuple(names.get(dim, dim) if isinstance(dim, str) else dim for dim in made.shape)
    if whole.is_batchable and dims[:1] != ("batch",):
        raise ConfigRejected(
            f"'{at}' has shape {list(dims)}, which does not begin with the batch: the rows of a request "
            f"could not be told apart; cut at another tensor: {LIST}"
        )
    spec = TensorSpec(at, made.dtype, dims)
    limits = {dim: limit for dim, limit in whole.limits.items() if dim in dims}
    return Signature(whole.inputs, (spec,), whole.limits), Signature((spec,), whole.outputs, limits)


def _names(graph: Signature, told: Signature) -> Mapping[Dim, Dim]:
    """From a dimension's name in the graph to its name in the signature."""
    specs = {spec.name: spec for spec in told.inputs}
    return {
        theirs: ours
        for spec in graph.inputs
        for theirs, ours in zip(spec.shape, specs[spec.name].shape, strict=True)
    }


def _publish(
    repository: Repository, source: Artifact, name: str, graph: Path, signature: Signature
) -> Artifact:
    manifest = source.manifest
    named = {dim for spec in signature.inputs for dim in spec.shape}
    sizes = [{dim: size for dim, size in found.items() if dim in named} for found in manifest.warm_up]
    pads = signature.inputs == manifest.signature.inputs
    return repository.publish(
        name,
        next_version(repository, name),
        files_of(graph),
        graph=graph.name,
        signature=signature,
        engine=manifest.engine,
        session=manifest.session,
        grouping=manifest.grouping if pads else "exact",  # the mask stays with the backbone
        warm_up=tuple(found for number, found in enumerate(sizes) if found not in sizes[:number]),
        precision=manifest.precision,
    )


def _check_names(names: Sequence[str]) -> None:
    if names[0] == names[1]:
        raise ConfigRejected(f"backbone and head are both called '{names[0]}'; give them different names")
    for name in names:
        check_model_name(name)
