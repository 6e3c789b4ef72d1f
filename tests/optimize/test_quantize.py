import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from examples.minilm.builder import GraphBuilder
from headrace.errors import ConfigRejected
from optimize.calibrate import calibrate
from optimize.progress import Line
from optimize.quantize import (
    Conversion,
    convert,
    layers,
    op_types,
    preprocess,
    quantize_dynamic,
    quantized_layers,
)
from optimize.ranges import determine


def _value(name, shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _save(graph, path, before, after):
    onnx.save(graph.model([_value("x", before)], [_value("y", after)], 20, 9), path)
    return path


@pytest.fixture
def convolution(tmp_path):
    graph = GraphBuilder()
    kernel = graph.constant("kernel", np.ones((2, 3, 3, 3), np.float32))
    graph.op("Conv", "x", kernel, output="y")
    return _save(graph, tmp_path / "conv.onnx", ["batch", 3, 8, 8], ["batch", 2, 6, 6])


def test_tables_and_products_shrink_to_a_third_and_answers_stay_close(write_graph, tmp_path):
    source = write_graph(tmp_path / "words.onnx")
    target = quantize_dynamic(source, tmp_path / "small.onnx")
    assert target.stat().st_size < 0.3 * source.stat().st_size
    ids = np.arange(60).reshape(4, 15)
    before, after = (
        onnxruntime.InferenceSession(path).run(None, {"ids": ids, "mask": np.ones_like(ids)})[0]
        for path in (source, target)
    )
    assert np.abs(before - after).max() < 0.05 * np.abs(before).max()


def test_the_same_graph_gives_the_same_bytes(write_graph, tmp_path):
    source = write_graph(tmp_path / "words.onnx")
    first, second = (quantize_dynamic(source, tmp_path / f"{n}.onnx").read_bytes() for n in "ab")
    assert first == second


def test_convolutions_are_refused_with_the_reason(convolution, tmp_path):
    with pytest.raises(ConfigRejected, match="Conv nodes: dynamic INT8 makes convolutions slower"):
        quantize_dynamic(convolution, tmp_path / "small.onnx")


def test_a_graph_without_weights_is_refused(tmp_path):
    graph = GraphBuilder()
    graph.op("Relu", "x", output="y")
    with pytest.raises(ConfigRejected, match="no MatMul, Gemm, Gather with constant weights"):
        quantize_dynamic(_save(graph, tmp_path / "relu.onnx", [2], [2]), tmp_path / "small.onnx")


@pytest.fixture
def convnet(tmp_path):
    """Two convolutions with a batch norm after the first, channels of very unlike sizes, and a classifier."""
    random = np.random.default_rng(0)
    graph = GraphBuilder()
    unlike = (10.0 ** np.linspace(-1, 0, 8)).astype(np.float32)
    first = random.standard_normal((8, 3, 3, 3)).astype(np.float32) * unlike[:, None, None, None]
    second = random.standard_normal((16, 8, 3, 3)).astype(np.float32) / unlike[None, :, None, None]
    constants = {"scale": 1, "shift": 0, "mean": 0, "variance": 1}
    norm = [graph.constant(name, np.full(8, value, np.float32)) for name, value in constants.items()]
    hidden = graph.op("Conv", "x", graph.constant("first", first))
    hidden = graph.op("Relu", graph.op("BatchNormalization", hidden, *norm))
    hidden = graph.op("Relu", graph.op("Conv", hidden, graph.constant("second", second)))
    flat = graph.op("ReduceMean", hidden, graph.integers(2, 3), keepdims=0)
    graph.op(
        "MatMul", flat, graph.constant("last", random.standard_normal((16, 4)).astype(np.float32)), output="y"
    )
    return _save(graph, tmp_path / "net.onnx", ["batch", 3, 12, 12], ["batch", 4])


def images(count):
    random = np.random.default_rng(1)
    return [{"x": random.standard_normal((1, 3, 12, 12)).astype(np.float32)} for _ in range(count)]


def run(path, rows):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, row)[0] for row in rows])


def static(source, folder, how, method="minmax"):
    """The four stages on the small convnet: (quantized graph, layers quantized, layers)."""
    ready = folder / "ready.onnx"
    preprocess(source, ready)
    found = calibrate(
        ready,
        lambda skip: images(16)[skip:],
        op_types(onnx.load(ready).graph),
        folder / "statistics.npz",
        Line(None, ""),
    )
    target = folder / "static.onnx"
    return target, *convert(ready, target, determine(found, method, how.is_symmetric), how)


def error(source, target):
    wanted, found = run(source, images(8)), run(target, images(8))
    return float(np.abs(wanted - found).max() / np.abs(wanted).max())


def test_preprocessing_folds_the_batch_norm_and_names_every_node(convnet, tmp_path):
    preprocess(convnet, tmp_path / "ready.onnx")
    graph = onnx.load(tmp_path / "ready.onnx").graph
    assert "BatchNormalization" not in {node.op_type for node in graph.node}
    assert all(node.name for node in graph.node)
    assert [node.op_type for node in layers(graph)] == ["Conv", "Conv", "MatMul"]
    assert error(convnet, tmp_path / "ready.onnx") < 1e-5


def test_every_layer_becomes_int8_and_answers_stay_close(convnet, tmp_path):
    target, quantized, total = static(convnet, tmp_path, Conversion(reduce_range=True))
    assert (quantized, total) == (3, 3)
    onnx.checker.check_model(target)
    assert error(convnet, target) < 0.1


def test_ranges_by_channel_keep_unlike_channels_apart(convnet, tmp_path):
    by_channel = error(convnet, static(convnet, tmp_path, Conversion(reduce_range=True))[0])
    by_tensor = error(convnet, static(convnet, tmp_path, Conversion(False, reduce_range=True))[0])
    assert by_channel < by_tensor * 0.8


def test_excluded_layers_stay_in_fp32(convnet, tmp_path):
    preprocess(convnet, tmp_path / "ready.onnx")
    last = layers(onnx.load(tmp_path / "ready.onnx").graph)[-1].name
    target, quantized, _ = static(convnet, tmp_path, Conversion(exclude=(last,)))
    assert quantized == 2
    assert last not in quantized_layers(onnx.load(target).graph)


def test_one_layer_alone_can_be_quantized(convnet, tmp_path):
    preprocess(convnet, tmp_path / "ready.onnx")
    first = layers(onnx.load(tmp_path / "ready.onnx").graph)[0].name
    target, quantized, _ = static(convnet, tmp_path, Conversion(only=(first,)))
    assert quantized == 1
    assert quantized_layers(onnx.load(target).graph) == {first}


def test_gates_and_shifts_stay_in_fp32_and_sums_of_activations_do_not(tmp_path):
    graph = GraphBuilder()
    kernel = graph.constant(
        "kernel", np.random.default_rng(0).standard_normal((3, 3, 1, 1)).astype(np.float32)
    )
    hidden = graph.op("Conv", "x", kernel)
    gate = graph.op("Sigmoid", graph.op("Add", hidden, graph.constant("shift", np.full(1, 3, np.float32))))
    graph.op("Conv", graph.op("Add", graph.op("Mul", hidden, gate), "x"), kernel, output="y")
    shape = ["batch", 3, 12, 12]
    source = _save(graph, tmp_path / "gates.onnx", shape, shape)
    target, quantized, _ = static(source, tmp_path, Conversion())
    nodes = onnx.load(target).graph.node
    made = {name for node in nodes if node.op_type == "DequantizeLinear" for name in node.output}
    from_int8 = sorted((node.op_type, len(made & set(node.input))) for node in nodes)
    assert quantized == 2
    assert [entry for entry in from_int8 if entry[0] in ("Add", "Mul", "Sigmoid")] == [
        ("Add", 1),  # the shift, whose constant is FP32
        ("Add", 2),
        ("Mul", 1),  # its gate is FP32
        ("Sigmoid", 0),
    ]


def test_a_symmetric_graph_has_signed_types_and_zero_points_of_zero(convnet, tmp_path):
    target, _, _ = static(convnet, tmp_path, Conversion(is_symmetric=True))
    graph = onnx.load(target).graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    points = [constants[node.input[2]] for node in graph.node if node.op_type == "QuantizeLinear"]
    assert points
    assert all(point.dtype == np.int8 and not point.any() for point in points)


def test_the_same_ranges_give_the_same_bytes(convnet, tmp_path):
    first = static(convnet, tmp_path, Conversion())[0].read_bytes()
    assert static(convnet, tmp_path, Conversion())[0].read_bytes() == first


def test_nothing_to_quantize_is_refused(tmp_path):
    graph = GraphBuilder()
    graph.op("Relu", "x", output="y")
    source = _save(graph, tmp_path / "relu.onnx", [2], [2])
    with pytest.raises(ConfigRejected, match="no Conv, ConvTranspose, MatMul, Gemm"):
        convert(source, tmp_path / "small.onnx", {}, Conversion())
