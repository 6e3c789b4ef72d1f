import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from examples.minilm.builder import GraphBuilder
from headrace.errors import ConfigRejected, EngineFailed
from optimize import worker
from optimize.quantize import quantize_dynamic


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


def test_the_worker_hands_back_the_candidate(write_graph, tmp_path):
    source = write_graph(tmp_path / "words.onnx")
    assert worker.run(source, tmp_path / "small.onnx").is_file()


def test_the_worker_hands_back_the_reason_of_a_refusal(convolution, tmp_path):
    with pytest.raises(ConfigRejected, match="Conv nodes"):
        worker.run(convolution, tmp_path / "small.onnx")


def test_a_failure_in_the_worker_is_an_engine_failure(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"\xff garbage")
    with pytest.raises(EngineFailed, match=r"making the candidate failed: .*Error"):
        worker.run(tmp_path / "bad.onnx", tmp_path / "small.onnx")


def test_a_crash_of_the_worker_is_an_engine_failure(tmp_path, monkeypatch):
    (tmp_path / "optimize").mkdir()
    (tmp_path / "optimize" / "__init__.py").write_text("import os; os.kill(os.getpid(), 9)")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EngineFailed, match="ended by signal 9"):
        worker.run(tmp_path / "any.onnx", tmp_path / "small.onnx")


def test_a_worker_that_takes_too_long_is_stopped(write_graph, tmp_path):
    source = write_graph(tmp_path / "words.onnx")
    with pytest.raises(EngineFailed, match=r"longer than 0\.01 s"):
        worker.run(source, tmp_path / "small.onnx", timeout_s=0.01)
