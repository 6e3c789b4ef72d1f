"""BF16 models run, with every bit kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from engines.artifact import Repository
from engines.load import load
from headrace.errors import ArtifactRejected
from headrace.tensors import DTYPES, Signature, TensorSpec
from tests.example_tensors import any_bits, same_bits

BF16 = DTYPES["BF16"]


def publish(root: Path, nodes: list, inputs: dict[str, str], outputs: dict[str, str], shape: tuple):
    kinds = {"BF16": TensorProto.BFLOAT16, "FP32": TensorProto.FLOAT, "BYTES": TensorProto.STRING}
    given, results = (
        [helper.make_tensor_value_info(name, kinds[dtype], list(shape)) for name, dtype in told.items()]
        for told in (inputs, outputs)
    )
    model = helper.make_model(
        helper.make_graph(nodes, "g", given, results),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    signature = Signature(
        tuple(TensorSpec(name, dtype, shape) for name, dtype in inputs.items()),
        tuple(TensorSpec(name, dtype, shape) for name, dtype in outputs.items()),
    )
    return Repository(root).publish(
        "m", "1", {"model.onnx": model.SerializeToString()}, graph="model.onnx", signature=signature,
        warm_up=({"batch": 2},),
    )  # fmt: skip


@pytest.mark.parametrize("shape", [(3, 2), (0, 2), (1, 0)])
def test_bits_go_in_and_come_out(tmp_path, shape):
    node = helper.make_node("Identity", ["x"], ["y"])
    engine = load(publish(tmp_path, [node], {"x": "BF16"}, {"y": "BF16"}, ("batch", "n")), threads=1)
    engine.warm_up()
    x = any_bits("BF16", shape)
    found = engine.run({"x": x})["y"]
    assert same_bits(found, x)
    assert found.flags.owndata


def test_bf16_beside_other_datatypes(tmp_path):
    nodes = [
        helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["f"], ["z"], to=TensorProto.BFLOAT16),
        helper.make_node("Cast", ["f"], ["t"], to=TensorProto.STRING),
    ]
    kinds = {"x": "BF16", "f": "FP32"}, {"y": "FP32", "z": "BF16", "t": "BYTES"}
    engine = load(publish(tmp_path, nodes, *kinds, ("batch",)), threads=1)
    f = np.array([1.5, -2.0, 3.0], np.float32)
    found = engine.run({"x": f.astype(BF16)[::-1], "f": f})
    assert np.array_equal(found["y"], f[::-1])
    assert same_bits(found["z"], f.astype(BF16))
    assert found["t"].tolist() == [b"1.5", b"-2", b"3"]
    assert list(engine.run({"x": f.astype(BF16), "f": f}, ("z",))) == ["z"]


def test_text_in_beside_bf16_is_refused_at_load(tmp_path):
    nodes = [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Identity", ["t"], ["u"])]
    artifact = publish(tmp_path, nodes, {"x": "BF16", "t": "BYTES"}, {"y": "BF16", "u": "BYTES"}, ("batch",))
    with pytest.raises(ArtifactRejected, match="takes text and has BF16 tensors"):
        load(artifact, threads=1)
