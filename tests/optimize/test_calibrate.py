import numpy as np
import onnx
import pytest

from headrace.errors import ConfigRejected
from optimize.calibrate import calibrate, load_statistics, watched_tensors
from optimize.progress import Line
from optimize.quantize import TRANSFORMER

LINE = Line(None, "")


@pytest.fixture
def graph(write_graph, tmp_path):
    return write_graph(tmp_path / "words.onnx")


def rows(count):
    random = np.random.default_rng(3)
    found = [random.integers(0, 2000, (1, 2 + n % 5)) for n in range(count)]
    return [{"ids": ids, "mask": np.ones_like(ids)} for ids in found]


def seen(graph, given, checkpoint):
    return calibrate(graph, lambda skip: given[skip:], TRANSFORMER, checkpoint, LINE)


def test_what_is_watched_are_the_inputs_and_outputs_of_products(graph):
    model = onnx.load(graph)
    product = next(node for node in model.graph.node if node.op_type == "MatMul")
    gather = next(node for node in model.graph.node if node.op_type == "Gather")
    assert watched_tensors(model, TRANSFORMER) == sorted([product.input[0], "vector", gather.output[0]])


def test_extremes_and_counts_are_those_of_all_inputs(graph, tmp_path):
    given = rows(7)
    found = seen(graph, given, tmp_path / "stats.npz")
    gather = next(node for node in onnx.load(graph).graph.node if node.op_type == "Gather").output[0]
    table = onnx.numpy_helper.to_array(
        next(tensor for tensor in onnx.load(graph).graph.initializer if tensor.name == "table")
    )
    values = np.concatenate([table[row["ids"]].ravel() for row in given])
    assert found.low[gather] == pytest.approx(values.min())
    assert found.high[gather] == pytest.approx(values.max())
    assert found.counts[gather].sum() == values.size
    assert found.columns[gather] == pytest.approx(np.abs(values.reshape(-1, 64)).max(axis=0))
    assert found.inputs == 7


def test_an_interrupted_calibration_goes_on_to_the_same_statistics(graph, tmp_path):
    given = rows(40)
    whole = seen(graph, given, tmp_path / "whole.npz")

    class Killed(Exception):
        pass

    def stops_at(number):
        def inputs(skip):
            for place, row in enumerate(given[skip:], skip):
                if place == number and skip < number:
                    raise Killed
                yield row

        return inputs

    checkpoint = tmp_path / "cut.npz"
    for number in (20, 39):
        with pytest.raises(Killed):
            calibrate(graph, stops_at(number), TRANSFORMER, checkpoint, LINE)
    assert load_statistics(checkpoint).rows == 32
    cut = seen(graph, given, checkpoint)
    assert cut.low == whole.low
    assert cut.high == whole.high
    assert all(np.array_equal(cut.counts[name], whole.counts[name]) for name in whole.counts)


def test_a_calibration_that_had_ended_is_taken_as_it_is(graph, tmp_path):
    first = seen(graph, rows(5), tmp_path / "stats.npz")
    again = seen(graph, [], tmp_path / "stats.npz")
    assert (again.inputs, again.low) == (5, first.low)


def test_an_input_that_makes_it_overflow_is_told(graph, tmp_path):
    model = onnx.load(graph)
    for tensor in model.graph.initializer:
        if tensor.name == "table":
            huge = np.full(tensor.dims, 3e38, np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(huge, "table"))
    onnx.save(model, graph)
    with pytest.raises(ConfigRejected, match=r"infinite or NaN on calibration input 0; leave that input out"):
        seen(graph, rows(2), tmp_path / "stats.npz")


def test_a_graph_without_products_is_told(tmp_path):
    value = [onnx.helper.make_tensor_value_info(name, 1, [1]) for name in "xy"]
    nodes = [onnx.helper.make_node("Relu", ["x"], ["y"])]
    graph = onnx.helper.make_graph(nodes, "g", value[:1], value[1:])
    path = tmp_path / "relu.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]), path)
    with pytest.raises(ConfigRejected, match="no MatMul, Gemm, Gather"):
        seen(path, [], tmp_path / "stats.npz")
