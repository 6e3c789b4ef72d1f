"""A small text model: a table of vectors, the mean over real tokens, one product."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from engines.artifact import Artifact, Repository
from examples.minilm.builder import GraphBuilder
from headrace.tensors import Signature, TensorSpec

WORDS, WIDTH = 100, 4


@pytest.fixture(scope="session")
def graph_bytes() -> bytes:
    random = np.random.default_rng(0)
    graph = GraphBuilder()
    table = graph.constant("table", random.standard_normal((WORDS, WIDTH)).astype(np.float32))
    weight = graph.constant("weight", random.standard_normal((WIDTH, WIDTH)).astype(np.float32))
    mask = graph.op("Unsqueeze", graph.op("Cast", "mask", to=TensorProto.FLOAT), graph.integers(2))
    total = graph.op(
        "ReduceSum", graph.op("Mul", graph.op("Gather", table, "ids"), mask), graph.integers(1), keepdims=0
    )
    count = graph.op("ReduceSum", mask, graph.integers(1), keepdims=0)
    graph.op("MatMul", graph.op("Div", total, count), weight, output="vector")
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
        for name in ("ids", "mask")
    ]
    outputs = [helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["batch", WIDTH])]
    return graph.model(inputs, outputs, 20, 9).SerializeToString()


@pytest.fixture(scope="session")
def signature() -> Signature:
    return Signature(
        inputs=(
            TensorSpec("ids", "INT64", ("batch", "length"), low=0, high=WORDS - 1),
            TensorSpec("mask", "INT64", ("batch", "length"), low=0, high=1),
        ),
        outputs=(TensorSpec("vector", "FP32", ("batch", WIDTH)),),
        limits={"length": 16},
    )


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "models")


@pytest.fixture
def publish(repository: Repository, graph_bytes: bytes, signature: Signature) -> Callable[..., Artifact]:
    """Publish the small model as 'text' with the given version and other parts."""

    def published(version: str = "1", **parts: object) -> Artifact:
        files = {"model.onnx": graph_bytes, "report.json": b"{}"}
        told = {"graph": "model.onnx", "signature": signature, "warm_up": ({"batch": 2, "length": 3},)}
        return repository.publish("text", version, **{"files": files, **told, **parts})  # type: ignore[arg-type]

    return published
