import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from examples.minilm.builder import GraphBuilder
from optimize.calibrate import calibrate
from optimize.progress import Line
from optimize.quantize import TRANSFORMER, Conversion
from optimize.sensitivity import Reference, error_of, rank
from optimize.smooth import smooth

WIDTH = 32


@pytest.fixture
def outlying(tmp_path):
    """A layer norm with one column a hundred times the others, and three products behind it."""
    random = np.random.default_rng(0)
    scale = np.ones(WIDTH, np.float32)
    scale[3] = 100
    graph = GraphBuilder()

    def weight(name):
        return graph.constant(name, random.standard_normal((WIDTH, WIDTH)).astype(np.float32))

    shift = graph.constant("shift", np.zeros(WIDTH, np.float32))
    normed = graph.op("LayerNormalization", "x", graph.constant("scale", scale), shift, axis=-1)
    inner = graph.op("Relu", graph.op("Add", *(graph.op("MatMul", normed, weight(name)) for name in "ab")))
    graph.op("MatMul", inner, weight("c"), output="y")
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", WIDTH]) for n in "xy"]
    onnx.save(graph.model(values[:1], values[1:], 20, 9), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def rows(count):
    random = np.random.default_rng(1)
    return [{"x": random.standard_normal((4, WIDTH)).astype(np.float32)} for _ in range(count)]


def seen(graph):
    checkpoint = graph.with_suffix(".npz")
    checkpoint.unlink(missing_ok=True)
    return calibrate(graph, lambda skip: rows(16)[skip:], TRANSFORMER, checkpoint, Line(None, ""))


def answers(graph):
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, row)[0] for row in rows(4)])


def test_the_smoothed_graph_computes_the_same(outlying, tmp_path):
    target = tmp_path / "smooth.onnx"
    assert smooth(outlying, target, seen(outlying), 0.8) == 3
    assert answers(target) == pytest.approx(answers(outlying), rel=1e-3, abs=1e-3)


def test_the_division_is_folded_into_a_layer_norm_and_a_product_elsewhere(outlying, tmp_path):
    target = tmp_path / "smooth.onnx"
    smooth(outlying, target, seen(outlying), 0.8)
    before, after = ([node.op_type for node in onnx.load(path).graph.node] for path in (outlying, target))
    assert after.count("Mul") == before.count("Mul") + 1


def test_int8_is_nearer_to_the_original_when_smoothed(outlying, tmp_path):
    reference = Reference(outlying, rows(8))
    target = tmp_path / "smooth.onnx"
    smooth(outlying, target, seen(outlying), 0.8)
    how = Conversion(per_channel=False)
    plain = error_of(reference, outlying, seen(outlying), "minmax", how)
    assert error_of(reference, target, seen(target), "minmax", how) < plain / 2


def test_weights_that_others_use_too_stay_as_they_are(outlying, tmp_path):
    model = onnx.load(outlying)
    model.graph.node.append(helper.make_node("MatMul", ["x", "c"], ["z"], name="other"))
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", WIDTH]))
    onnx.save(model, outlying)
    target = tmp_path / "smooth.onnx"
    smooth(outlying, target, seen(outlying), 0.5)
    first, second = (
        onnxruntime.InferenceSession(path).run(["z"], rows(1)[0])[0] for path in (outlying, target)
    )
    assert second == pytest.approx(first, rel=1e-4, abs=1e-4)


def test_layers_are_ranked_by_what_each_alone_costs(outlying):
    model = onnx.load(outlying)
    names = [node.name for node in model.graph.node if node.op_type == "MatMul"]
    ranked = rank(
        Reference(outlying, rows(8)), outlying, seen(outlying), "minmax", Conversion(False), Line(None, "")
    )
    assert sorted(name for name, _, _ in ranked) == sorted(names)
    errors = [error for _, _, error in ranked]
    assert errors == sorted(errors, reverse=True)
    assert ranked[-1][0] == names[-1]  # the only product without the outlying column
    assert all(kind == "MatMul" for _, kind, _ in ranked)


def test_the_original_is_at_no_distance_from_itself(outlying):
    assert Reference(outlying, rows(2)).error(outlying) == pytest.approx(0, abs=1e-12)
