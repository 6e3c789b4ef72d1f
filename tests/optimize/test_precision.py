import re

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from headrace.errors import ConfigRejected
from optimize.graphs import signature_of
from optimize.precision import can_compute, store_fp16, to_half


@pytest.fixture
def source(tmp_path, write_graph):
    return write_graph(tmp_path / "words.onnx")


@pytest.fixture
def inputs():
    ids = np.random.default_rng(1).integers(0, 2000, (8, 12))
    return {"ids": ids, "mask": np.ones_like(ids)}


def _session(path, **options):
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    for name, value in options.items():
        setattr(settings, name, value)
    return onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])


def _run(path, inputs):
    return _session(path).run(None, inputs)[0]


def _product(path, weight, listed=False, ir_version=9):
    """A graph that multiplies with `weight`; `listed`: among the inputs, as old graphs have it."""
    value = helper.make_tensor_value_info
    given = [value("x", TensorProto.FLOAT, ["batch", len(weight)])]
    if listed:
        given.append(value("w", TensorProto.FLOAT, list(weight.shape)))
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        given,
        [value("y", TensorProto.FLOAT, ["batch", weight.shape[1]])],
        [numpy_helper.from_array(weight.astype(np.float32), "w")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=ir_version), path
    )
    return path


def _weights(path):
    return {tensor.name: tensor.data_type for tensor in onnx.load(path).graph.initializer}


def test_stored_as_fp16_it_has_half_the_size_and_answers_alike(source, inputs, tmp_path):
    stored = store_fp16(source, tmp_path / "stored.onnx")
    assert stored.stat().st_size < 0.52 * source.stat().st_size
    np.testing.assert_allclose(_run(stored, inputs), _run(source, inputs), atol=2e-2)
    assert signature_of(onnx.load(stored).graph) == signature_of(onnx.load(source).graph)
    onnx.checker.check_model(stored, full_check=True)


def test_the_casts_are_folded_when_the_engine_loads_it(source, tmp_path):
    def kinds(path):
        _session(path, optimized_model_filepath=str(tmp_path / "folded.onnx"))
        return sorted(node.op_type for node in onnx.load(tmp_path / "folded.onnx").graph.node)

    assert kinds(store_fp16(source, tmp_path / "stored.onnx")) == kinds(source)


def test_openvino_reads_what_is_stored_as_fp16(source, inputs, tmp_path):
    from engines.openvino import import_openvino

    try:
        core = import_openvino().Core()
    except ImportError:
        pytest.skip("openvino is not installed: pip install openvino")
    stored = store_fp16(source, tmp_path / "stored.onnx")
    exact = {
        "INFERENCE_PRECISION_HINT": "f32"
    }  # by itself it would round to BF16 where the processor has that
    request = core.compile_model(core.read_model(stored.read_bytes()), "CPU", exact).create_infer_request()
    request.start_async(inputs)
    request.wait()
    np.testing.assert_allclose(request.get_tensor("vector").data, _run(stored, inputs), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("value", [70_000.0, 1e-7, np.inf, np.nan], ids=str)
def test_weights_that_fp16_cannot_hold_stay_fp32(tmp_path, value):
    weight = np.full((32, 32), value)
    weight[0, 0] = 0
    with pytest.raises(ConfigRejected, match="no FP32 weights"):
        store_fp16(_product(tmp_path / "w.onnx", weight), tmp_path / "stored.onnx")
    assert not (tmp_path / "stored.onnx").exists()


def test_one_weight_out_of_range_does_not_keep_the_others(source, inputs, tmp_path):
    model = onnx.load(source)
    table = next(tensor for tensor in model.graph.initializer if tensor.name == "table")
    table.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(table) * np.float32(1e6), "table"))
    onnx.save(model, source)
    found = _weights(store_fp16(source, tmp_path / "stored.onnx"))
    assert found["table"] == TensorProto.FLOAT
    assert found["weight_fp16"] == TensorProto.FLOAT16
    np.testing.assert_allclose(
        _run(tmp_path / "stored.onnx", inputs), _run(source, inputs), rtol=0.2, atol=2e4
    )


def test_small_tensors_stay_fp32(tmp_path):
    with pytest.raises(ConfigRejected, match="use int8"):
        store_fp16(_product(tmp_path / "w.onnx", np.ones((8, 8))), tmp_path / "stored.onnx")


def test_weights_that_an_old_graph_lists_as_inputs_are_no_inputs_any_more(tmp_path):
    source = _product(tmp_path / "w.onnx", np.eye(32), listed=True, ir_version=3)
    stored = store_fp16(source, tmp_path / "stored.onnx")
    x = np.random.default_rng(0).standard_normal((2, 32)).astype(np.float32)
    np.testing.assert_array_equal(_run(stored, {"x": x}), x)
    onnx.checker.check_model(stored)


def test_a_name_that_is_taken_is_left_alone(tmp_path):
    source = _product(tmp_path / "w.onnx", np.eye(32))
    model = onnx.load(source)
    model.graph.node[0].output[0] = "w_fp16"
    model.graph.node.append(helper.make_node("Identity", ["w_fp16"], ["y"]))
    onnx.save(model, source)
    assert "w_fp16_" in _weights(store_fp16(source, tmp_path / "stored.onnx"))


def test_the_same_graph_gives_the_same_bytes(source, tmp_path):
    first, second = (store_fp16(source, tmp_path / name) for name in ("1.onnx", "2.onnx"))
    assert first.read_bytes() == second.read_bytes()


def test_computed_in_fp16_it_takes_and_gives_what_it_did(source, inputs, tmp_path):
    half = to_half(source, tmp_path / "half.onnx")
    assert signature_of(onnx.load(half).graph) == signature_of(onnx.load(source).graph)
    assert set(_weights(half).values()) <= {TensorProto.FLOAT16, TensorProto.INT64}
    assert half.stat().st_size < 0.52 * source.stat().st_size
    np.testing.assert_allclose(_run(half, inputs), _run(source, inputs), rtol=2e-2, atol=5e-2)


def test_in_bf16_weights_are_rounded_once_and_keep_their_range(source, inputs, tmp_path):
    model = onnx.load(source)
    table = next(tensor for tensor in model.graph.initializer if tensor.name == "table")
    value = numpy_helper.to_array(table).copy()
    value[0, 0] = 1e30  # FP16 has no such number
    table.CopyFrom(numpy_helper.from_array(value, "table"))
    onnx.save(model, source)
    half = onnx.load(to_half(source, tmp_path / "half.onnx", "bf16"))
    onnx.checker.check_model(half)
    assert signature_of(half.graph) == signature_of(model.graph)
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in half.graph.initializer}
    np.testing.assert_array_equal(found["table"], value.astype(ml_dtypes.bfloat16))
    types = {tensor.data_type for tensor in half.graph.initializer}
    assert types == {TensorProto.BFLOAT16, TensorProto.INT64}
    casts = {part.i for node in half.graph.node if node.op_type == "Cast" for part in node.attribute}
    assert casts == {TensorProto.BFLOAT16, TensorProto.FLOAT}


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_branches_are_of_the_same_type_as_the_rest(tmp_path, precision):
    value, bools = helper.make_tensor_value_info, TensorProto.BOOL
    weight = np.eye(32, dtype=np.float32)

    def branch(name, factor):
        made = helper.make_node("MatMul", ["x", f"w_{name}"], [f"y_{name}"], name=name)
        constants = [numpy_helper.from_array(weight * np.float32(factor), f"w_{name}")]
        return helper.make_graph(
            [made], name, [], [value(f"y_{name}", TensorProto.FLOAT, ["batch", 32])], constants
        )

    graph = helper.make_graph(
        [helper.make_node("If", ["c"], ["y"], then_branch=branch("a", 1), else_branch=branch("b", 2))],
        "g",
        [value("x", TensorProto.FLOAT, ["batch", 32]), value("c", bools, [])],
        [value("y", TensorProto.FLOAT, ["batch", 32])],
    )
    source = tmp_path / "if.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), source)
    half = onnx.load(to_half(source, tmp_path / "half.onnx", precision))
    onnx.checker.check_model(half, full_check=True)


def test_operators_without_fp16_kernels_stay_fp32(tmp_path):
    source = _product(tmp_path / "w.onnx", np.eye(32))
    model = onnx.load(source)
    model.graph.node[0].output[0] = "z"
    model.graph.node.append(helper.make_node("CumSum", ["z", "axis"], ["y"], name="sum"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(1, np.int32), "axis"))
    model.graph.node.insert(0, helper.make_node("Range", ["r0", "r1", "r2"], ["r"], name="range"))
    model.graph.initializer.extend(numpy_helper.from_array(np.float32(n), f"r{n}") for n in range(3))
    model.graph.output.append(helper.make_tensor_value_info("r", TensorProto.FLOAT, [1]))
    onnx.save(model, source)
    x = np.ones((1, 32), np.float32)
    half = to_half(source, tmp_path / "half.onnx")
    np.testing.assert_array_equal(_run(half, {"x": x})[0], np.arange(1, 33))


@pytest.mark.parametrize(
    ("precision", "engine", "flags", "reason"),
    [
        ("fp16", "tensorrt", (), ""),
        ("fp16", "onnxruntime", ("avx512_fp16",), "ONNX Runtime has next to no CPU kernels in FP16"),
        ("bf16", "onnxruntime", ("amx_bf16",), "CPU kernels in BF16"),
        ("fp16", "openvino", ("avx512_fp16", "avx2"), ""),
        ("bf16", "openvino", ("amx_bf16",), ""),
        (
            "fp16",
            "openvino",
            ("avx2", "avx512_bf16"),
            r"no FP16 arithmetic \(amx_fp16 or asimdhp or avx512_fp16\)",
        ),
        ("bf16", "openvino", (), r"no BF16 arithmetic \(amx_bf16 or avx512_bf16\)"),
    ],
)
def test_whether_an_engine_can_compute_in_it_depends_on_the_processor(precision, engine, flags, reason):
    found = can_compute(precision, engine, flags)
    assert re.search(reason, found) if reason else found == ""
