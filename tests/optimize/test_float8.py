"""FP8 graphs: right numbers in ONNX Runtime as it is told to load them, plans for GPUs that have FP8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from ml_dtypes import float8_e4m3fn
from onnx import TensorProto, numpy_helper

from engines.artifact import Repository
from engines.load import load
from engines.plans import Plans
from engines.trt_library import RTX, find
from headrace.errors import ConfigRejected, EngineUnavailable
from headrace.tensors import Array
from optimize.api import optimize
from optimize.float8 import SESSION, convert_to_fp8, has_fp8
from optimize.goals import Goals
from optimize.plans import build_plans
from optimize.publish import publish, publish_again
from optimize.quantize import preprocess
from optimize.steps import QuantizeFloat8
from tests import digits

Ranges = dict[str, tuple[float, float]]


@pytest.fixture
def prepared(tmp_path: Path, write_graph: Any) -> Path:
    preprocess(write_graph(tmp_path / "words.onnx"), tmp_path / "prepared.onnx")
    return tmp_path / "prepared.onnx"


@pytest.fixture
def inputs() -> dict[str, Array]:
    ids = np.random.default_rng(1).integers(0, 2000, (8, 12))
    return {"ids": ids, "mask": np.ones_like(ids)}


def ranges(graph: Path, inputs: dict[str, Array]) -> Ranges:
    """Of every tensor in floating point, as these inputs make them."""
    model = onnx.shape_inference.infer_shapes(onnx.load(graph))
    values = [v for v in model.graph.value_info if v.type.tensor_type.elem_type == TensorProto.FLOAT]
    known = {value.name for value in model.graph.output}
    model.graph.output.extend(value for value in values if value.name not in known)
    names = [value.name for value in model.graph.output]
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = dict(zip(names, session.run(None, inputs), strict=True))
    tables = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer if t.data_type == 1}
    largest = {name: float(np.abs(value).max()) for name, value in (found | tables).items()}
    return {name: (-most, most) for name, most in largest.items()}


def run(graph: Path, inputs: dict[str, Array]) -> Array:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    found: Array = session.run(None, inputs)[0]
    return found


@pytest.mark.parametrize("per_channel", [False, True])
def test_it_answers_nearly_as_before_and_weights_are_the_nearest_in_fp8(
    prepared: Path, inputs: dict[str, Array], tmp_path: Path, per_channel: bool
) -> None:
    target = tmp_path / "fp8.onnx"
    quantized, of = convert_to_fp8(prepared, target, ranges(prepared, inputs), per_channel)
    assert quantized == of > 0
    model = onnx.load(target)
    onnx.checker.check_model(model, full_check=True)
    assert has_fp8(model.graph)
    assert not has_fp8(onnx.load(prepared).graph)
    types = {tensor.data_type for tensor in model.graph.initializer}
    assert TensorProto.INT8 not in types
    before, after = run(prepared, inputs), run(target, inputs)
    cosine = (before * after).sum(1) / np.linalg.norm(before, axis=1) / np.linalg.norm(after, axis=1)
    assert cosine.min() > 0.99
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    exact = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(prepared).graph.initializer}
    made = [name for name, value in weights.items() if value.dtype == float8_e4m3fn and value.ndim > 1]
    assert made
    for name in made:
        value = exact[name.removesuffix("_quantized")]
        scale = weights[name.replace("_quantized", "_scale")]
        back = weights[name].astype(np.float32) * (scale if scale.ndim == 0 else scale[None, :])
        np.testing.assert_allclose(back, value, rtol=0.0625, atol=float(np.abs(value).max()) / 448 / 64)


def test_an_older_opset_is_refused(prepared: Path, tmp_path: Path) -> None:
    model = onnx.load(prepared)
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = 17
    onnx.save(model, prepared)
    with pytest.raises(ConfigRejected, match="FP8 needs opset 19, and the graph has 17; export the model"):
        convert_to_fp8(prepared, tmp_path / "fp8.onnx", {})


def test_a_model_in_fp8_is_judged_here_and_planned_for_gpus_that_have_it(tmp_path: Path) -> None:
    report = optimize(
        digits.trained(),
        evaluate=digits.accuracy,
        calibration=[{"x": image[None]} for image in digits.images()[0][:64]],
        out=tmp_path / "digits",
        goals=Goals(max_drop=0.02),
        steps=[QuantizeFloat8()],
        targets=["onnxruntime", "openvino"],
    )
    found, refused = report.candidates
    assert (found.status, found.precision, found.session) == ("chosen", "fp8-static", SESSION)
    assert "rounded, but not computed in FP8 here" in found.stages["conversion"]
    assert "openvino" in refused.reason  # it has no FP8, or is not installed
    repository = Repository(tmp_path)
    engine = load(repository.open("digits", found.version), threads=1)
    assert digits.accuracy(engine.run) > 0.9
    engine.close()
    artifact = publish_again(repository, f"digits/{found.version}", "tensorrt")
    plans = Plans(tmp_path / "plans")
    (built,) = build_plans(artifact, find(RTX), plans, ["8.9"], max_batch=8)
    assert built.size_bytes > 1000
    with pytest.raises(
        EngineUnavailable, match=r"'digits/\d' is in FP8, which .* 8\.9 on have, and not 8\.0"
    ):
        build_plans(artifact, find(RTX), plans, ["8.0"], max_batch=8)
    with pytest.raises(ConfigRejected, match=r"is in FP8, which openvino has not"):
        publish_again(repository, f"digits/{found.version}", "openvino")
    graph = artifact.graph_path
    as_file = publish(graph, repository, "as_file")
    assert (as_file.manifest.precision, as_file.manifest.session) == ("fp8-static", SESSION)
    with pytest.raises(ConfigRejected, match=r"is in FP8, which openvino has not"):
        publish(graph, repository, "as_file", engine="openvino")
    back = publish_again(repository, f"digits/{artifact.manifest.version}", "onnxruntime")
    assert back.manifest.session == SESSION
