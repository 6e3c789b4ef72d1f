"""Tiny real ONNX models for tests of the serving side."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

from engines.artifact import Repository
from headrace.tensors import Signature, TensorSpec

SIDE = 1024  # of the matrices that make `slow` slow


def publish_all(root: Path) -> Repository:
    """`double` (two versions, padded), `far` (the same, for replicas), `slow` (a tenth of a second or
    more), `words` (text), `lookup` (fails on an index that is too large), `loops` and `far_loops` (as
    many rounds as the largest value says: for ever, if it is told to)."""
    repository = Repository(root)
    _publish(repository, "double", _scale(2.0), ("x", "FP32"), ("y", "FP32"), grouping="nearest")
    _publish(repository, "double", _scale(3.0), ("x", "FP32"), ("y", "FP32"), version="2", grouping="nearest")
    _publish(repository, "far", _scale(2.0), ("x", "FP32"), ("y", "FP32"), grouping="nearest")
    _publish(repository, "slow", _slow(), ("x", "FP32"), ("y", "FP32"))
    _publish(repository, "words", _identity(TensorProto.STRING), ("x", "BYTES"), ("y", "BYTES"))
    _publish(repository, "lookup", _lookup(), ("x", "INT64"), ("y", "FP32"))
    for name in ("loops", "far_loops"):
        _publish(repository, name, _loops(), ("x", "INT64"), ("y", "INT64"))
    return repository


def _publish(
    repository: Repository,
    name: str,
    graph: onnx.GraphProto,
    given: tuple[str, str],
    result: tuple[str, str],
    version: str = "1",
    grouping: str = "exact",
) -> None:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    shape = ("batch", "length")
    signature = Signature(
        (TensorSpec(given[0], given[1], shape),),
        (TensorSpec(result[0], result[1], shape),),
        {"length": 3_000_000},
    )
    repository.publish(
        name,
        version,
        {"model.onnx": model.SerializeToString()},
        graph="model.onnx",
        signature=signature,
        grouping="nearest" if grouping == "nearest" else "exact",
    )


def _graph(
    nodes: list[onnx.NodeProto], kinds: tuple[int, int], *constants: onnx.TensorProto
) -> onnx.GraphProto:
    given, result = (
        helper.make_tensor_value_info(name, kind, ["batch", "length"])
        for name, kind in zip(("x", "y"), kinds, strict=True)
    )
    return helper.make_graph(nodes, "g", [given], [result], list(constants))


def _scale(factor: float) -> onnx.GraphProto:
    constant = helper.make_tensor("k", TensorProto.FLOAT, [], [factor])
    return _graph(
        [helper.make_node("Mul", ["x", "k"], ["y"])], (TensorProto.FLOAT, TensorProto.FLOAT), constant
    )


def _identity(kind: int) -> onnx.GraphProto:
    return _graph([helper.make_node("Identity", ["x"], ["y"])], (kind, kind))


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


def _slow() -> onnx.GraphProto:
    """x + 0 * (a product of large matrices that depends on x, so that nothing can be folded)."""
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [SIDE, SIDE])
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
