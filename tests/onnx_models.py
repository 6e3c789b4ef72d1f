"""Tiny real ONNX models for tests of the serving side."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

from engines.artifact import Artifact, Repository
from headrace.tensors import Signature, TensorSpec

SHAPE = ("batch", "length")
SIDE = 1024  # of the matrices that make `slow` slow
ONNX_TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "BF16": TensorProto.BFLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}
SCALARS = ("BF16", "BYTES", "FP32", "INT64")  # datatypes that have a model of rank 0, too


def same(dtype: str, rank: int = 2) -> str:
    """The name of the model that gives back what it gets: x -> y, of this datatype and rank."""
    return f"same{rank}-{dtype}"


SAME = [*map(same, ONNX_TYPES), *(same(dtype, 0) for dtype in SCALARS)]


def publish_same(repository: Repository) -> None:
    for dtype, kind in ONNX_TYPES.items():
        _publish(repository, same(dtype), _identity(kind), ("x", dtype), ("y", dtype))
    for dtype in SCALARS:
        graph = _identity(ONNX_TYPES[dtype], ())
        _publish(repository, same(dtype, 0), graph, ("x", dtype), ("y", dtype), shape=())


def publish_dear(repository: Repository, name: str) -> None:
    """Version 1 takes a tenth of a second or more, version 2 a few milliseconds and is nearly as good."""
    _publish(repository, name, _slow(), ("x", "FP32"), ("y", "FP32"), accuracy=0.92)
    _publish(repository, name, _slow(SIDE // 16), ("x", "FP32"), ("y", "FP32"), "2", accuracy=0.915)


def publish_all(root: Path) -> Repository:
    """`double` (two versions, padded), `far` (the same, for replicas), `slow` (a tenth of a second or
    more), `words` (text), `lookup` (fails on an index that is too large), `loops` and `far_loops` (as
    many rounds as the largest value says: for ever, if it is told to)."""
    repository = Repository(root)
    _publish(repository, "double", _scale(2.0), ("x", "FP32"), ("y", "FP32"), grouping="nearest")
    _publish(repository, "double", _scale(3.0), ("x", "FP32"), ("y", "FP32"), version="2", grouping="nearest")
    _publish(repository, "far", _scale(2.0), ("x", "FP32"), ("y", "FP32"), grouping="nearest")
    _publish(repository, "counted", _scale(2.0), ("x", "FP32"), ("y", "FP32"), grouping="nearest")
    _publish(repository, "slow", _slow(), ("x", "FP32"), ("y", "FP32"))
    _publish(repository, "words", _identity(TensorProto.STRING), ("x", "BYTES"), ("y", "BYTES"))
    _publish(repository, "lookup", _lookup(), ("x", "INT64"), ("y", "FP32"))
    for name in ("loops", "far_loops"):
        _publish(repository, name, _loops(), ("x", "INT64"), ("y", "INT64"))
    return repository


def publish_sized(root: Path) -> Artifact:
    """All of them, and version 3 of `double`, which tells a shape of its requests: by a warm-up."""
    repository = publish_all(root)
    other = repository.open("double", "2")
    return repository.publish(
        "double",
        "3",
        {file: other.folder / file for file in other.manifest.files},
        graph=other.manifest.graph,
        signature=other.manifest.signature,
        warm_up=({"batch": 1, "length": 1000},),
    )


def _publish(
    repository: Repository,
    name: str,
    graph: onnx.GraphProto,
    given: tuple[str, str],
    result: tuple[str, str],
    version: str = "1",
    grouping: str = "exact",
    shape: tuple[str, ...] = SHAPE,
    accuracy: float | None = None,
) -> None:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    signature = Signature(
        (TensorSpec(given[0], given[1], shape),),
        (TensorSpec(result[0], result[1], shape),),
        {"length": 3_000_000} if shape else {},
    )
    repository.publish(
        name,
        version,
        {"model.onnx": model.SerializeToString()},
        graph="model.onnx",
        signature=signature,
        grouping="nearest" if grouping == "nearest" else "exact",
        figures=None if accuracy is None else {"accuracy": accuracy},
    )


def _graph(
    nodes: list[onnx.NodeProto],
    kinds: tuple[int, int],
    *constants: onnx.TensorProto,
    shape: tuple[str, ...] = SHAPE,
) -> onnx.GraphProto:
    given, result = (
        helper.make_tensor_value_info(name, kind, list(shape))
        for name, kind in zip(("x", "y"), kinds, strict=True)
    )
    return helper.make_graph(nodes, "g", [given], [result], list(constants))


def _scale(factor: float) -> onnx.GraphProto:
    constant = helper.make_tensor("k", TensorProto.FLOAT, [], [factor])
    return _graph(
        [helper.make_node("Mul", ["x", "k"], ["y"])], (TensorProto.FLOAT, TensorProto.FLOAT), constant
    )


def _identity(kind: int, shape: tuple[str, ...] = SHAPE) -> onnx.GraphProto:
    return _graph([helper.make_node("Identity", ["x"], ["y"])], (kind, kind), shape=shape)


def _lookup() -> onnx.GraphProto:
    table = helper.make_tensor("table", TensorProto.FLOAT, [4], [0.0, 1.0, 2.0, 3.0])
    node = helper.make_node("Gather", ["table", "x"], ["y"])
    return _graph([node], (TensorProto.INT64, TensorProto.FLOAT), table)


def _loops() -> onnx.GraphProto:
    """x, after counting to its largest value."""
    round_number = helper.make_tensor_value_info("round", TensorProto.INT64, [])
    go_on = helper.make_tensor_value_info("go_on", TensorProto.BOOL, [])
    given = helper.make_tensor_value_info("given", TensorProto.INT64, ["batch", "length"])
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["still"]),
            helper.make_node("Identity", ["given"], ["carried"]),
        ],
        "body",
        [round_number, go_on, given],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("carried", TensorProto.INT64, ["batch", "length"]),
        ],
    )
    yes = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["rounds"], keepdims=0),
        helper.make_node("Loop", ["rounds", "yes", "x"], ["y"], body=body),
    ]
    return _graph(nodes, (TensorProto.INT64, TensorProto.INT64), yes)


def _slow(side: int = SIDE) -> onnx.GraphProto:
    """x + 0 * (a product of large matrices that depends on x, so that nothing can be folded)."""
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [side, side])
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0])
    tiny = helper.make_tensor("tiny", TensorProto.FLOAT, [], [1e-6])
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [0, 1])
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0, 1], keepdims=1),
        helper.make_node("Mul", ["mean", "tiny"], ["small"]),
        helper.make_node("Expand", ["small", "shape"], ["m0"]),
    ]
    nodes += [helper.make_node("MatMul", [f"m{n}", "m0"], [f"m{n + 1}"]) for n in range(10)]
    nodes += [
        helper.make_node("ReduceSum", ["m10", "axes"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "zero"], ["nothing"]),
        helper.make_node("Add", ["x", "nothing"], ["y"]),
    ]
    return _graph(nodes, (TensorProto.FLOAT, TensorProto.FLOAT), shape, zero, tiny, axes)
