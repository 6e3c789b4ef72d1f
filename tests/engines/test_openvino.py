import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest

from engines.load import load
from engines.openvino import _settings, import_openvino
from headrace.errors import ArtifactRejected, EngineFailed, TensorRejected
from headrace.tensors import DTYPES, Signature, TensorSpec

try:
    import_openvino()
except ImportError:
    pytest.skip("openvino is not installed: pip install openvino", allow_module_level=True)


@pytest.fixture
def load_model(publish):
    """The small model, or another, in OpenVINO."""
    engines = []

    def loaded(**parts: object):
        engines.append(load(publish(engine="openvino", **parts), threads=1))
        return engines[-1]

    yield loaded
    for engine in engines:
        engine.close()


@pytest.fixture
def engine(load_model):
    return load_model()


def _inputs(*rows: list[int]) -> dict[str, np.ndarray]:
    ids = np.array(rows, np.int64)
    return {"ids": ids, "mask": np.ones_like(ids)}


def _model(op: str, inputs: dict[str, tuple], output: tuple, dtype: str = "FP32") -> dict[str, object]:
    """What publishes a graph of one node."""
    number = onnx.helper.np_dtype_to_tensor_dtype(DTYPES[dtype])
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(op, list(inputs), ["y"])],
        "g",
        [value(name, number, shape) for name, shape in inputs.items()],
        [value("y", number, output)],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9)
    signature = Signature(
        tuple(TensorSpec(name, dtype, shape) for name, shape in inputs.items()),
        (TensorSpec("y", dtype, output),),
    )
    return {"files": {"model.onnx": model.SerializeToString()}, "signature": signature, "warm_up": ()}


def test_answers_are_those_of_onnxruntime(engine, publish):
    reference = load(publish("2"), threads=1)
    for inputs in (_inputs([1, 2, 3], [4, 5, 6]), _inputs([7]), _inputs([8, 9, 1, 2])):
        wanted = reference.run(inputs)["vector"]
        np.testing.assert_allclose(engine.run(inputs)["vector"], wanted, rtol=1e-5, atol=1e-6)


def test_warm_up_runs_the_shapes_of_the_manifest(engine):
    engine.warm_up()


def test_only_the_named_outputs_are_given(engine):
    assert list(engine.run(_inputs([1]), ("vector",))) == ["vector"]
    with pytest.raises(TensorRejected, match="unknown output 'other'"):
        engine.run(_inputs([1]), ("other",))


@pytest.mark.parametrize(
    "inputs",
    [
        _inputs([1, 5000]),
        {"ids": np.array([[1.0]]), "mask": np.array([[1]])},
        {"ids": np.array([1]), "mask": np.array([[1]])},
        {"ids": np.array([[1, 2]]), "mask": np.array([[1]])},
        {"ids": np.array([[1]])},
    ],
    ids=["value", "dtype", "rank", "sizes", "missing"],
)
def test_what_the_model_cannot_take_is_the_callers_mistake(engine, inputs):
    engine.run(_inputs([1, 2]))  # OpenVINO would answer with what it had before
    with pytest.raises(TensorRejected):
        engine.run(inputs)


def test_shapes_that_only_the_engine_can_refuse_are_the_callers_mistake(load_model):
    engine = load_model(**_model("MatMul", {"a": ("batch", "x"), "b": ("z", "y")}, ("batch", "y")))
    right = {"a": np.ones((2, 3), np.float32), "b": np.ones((3, 2), np.float32)}
    assert engine.run(right)["y"].tolist() == [[3, 3], [3, 3]]
    with pytest.raises(TensorRejected, match="cannot compute these values or shapes") as rejected:
        engine.run({**right, "b": np.ones((4, 2), np.float32)})
    assert "MatMul" not in str(rejected.value)
    assert engine.run(right)["y"].tolist() == [[3, 3], [3, 3]]


def test_threads_get_each_its_own_answer(engine):
    rows = [_inputs([n % 100, (n * 7) % 100]) for n in range(64)]
    wanted = [engine.run(row)["vector"] for row in rows]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda row: engine.run(row)["vector"], rows * 5))
    np.testing.assert_array_equal(np.stack(found), np.stack(wanted * 5))


def test_batches_at_a_time_are_streams_with_threads_of_their_own(publish):
    engine = load(publish(engine="openvino"), threads=1, streams=2)
    assert engine._model.get_property("NUM_STREAMS") == 2
    assert engine._model.get_property("INFERENCE_NUM_THREADS") == 2
    engine.close()


def test_answers_stay_as_they_are_when_the_next_batch_runs(engine):
    first = engine.run(_inputs([1, 2]))["vector"]
    kept = first.copy()
    engine.run(_inputs([3, 4]))
    np.testing.assert_array_equal(first, kept)


def test_arrays_need_not_be_contiguous_or_of_this_machines_byte_order(engine):
    wanted = engine.run(_inputs([1, 2], [3, 4]))["vector"]
    turned = {name: np.asfortranarray(array).astype(">i8") for name, array in _inputs([1, 2], [3, 4]).items()}
    np.testing.assert_array_equal(engine.run(turned)["vector"], wanted)


def test_read_only_arrays_are_taken(engine):
    inputs = _inputs([1, 2])
    for array in inputs.values():
        array.flags.writeable = False
    engine.run(inputs)


@pytest.mark.parametrize("dtype", sorted(set(DTYPES) - {"BYTES", "BF16"}))
def test_every_other_datatype_goes_in_and_comes_out(load_model, dtype):
    engine = load_model(**_model("Identity", {"x": ("batch", "n")}, ("batch", "n"), dtype))
    values = np.array([[0, 1, 1]], DTYPES[dtype])
    found = engine.run({"x": values})["y"]
    np.testing.assert_array_equal(found, values)
    assert found.dtype == values.dtype


@pytest.mark.parametrize("dtype", ["BYTES", "BF16"])
def test_text_and_bf16_are_refused(load_model, dtype):
    with pytest.raises(ArtifactRejected, match=f"takes or gives text or BF16 .x: {dtype}"):
        load_model(**_model("Identity", {"x": ("batch",)}, ("batch",), dtype))


def test_weights_in_other_files_are_refused(load_model, graph_bytes, tmp_path):
    model = onnx.ModelProto.FromString(graph_bytes)
    path, weights = tmp_path / "model.onnx", tmp_path / "weights.bin"
    onnx.save(model, path, save_as_external_data=True, location=weights.name, size_threshold=90)
    with pytest.raises(ArtifactRejected, match="publish a single file"):
        load_model(files={"model.onnx": path, "weights.bin": weights})


def test_any_other_failure_says_nothing_of_the_inside(engine, monkeypatch):
    class Broken:
        def start_async(self, *_, **__):
            raise RuntimeError("node /srv/model/MatMul_7 failed")

    monkeypatch.setattr(engine, "_idle", [Broken()])
    with pytest.raises(EngineFailed, match=r"RuntimeError") as failed:
        engine.run(_inputs([1]))
    assert "MatMul" not in str(failed.value)


def test_a_closed_engine_runs_nothing(engine):
    engine.close()
    with pytest.raises(EngineFailed, match="closed"):
        engine.run(_inputs([1]))


def test_a_graph_that_openvino_cannot_load_is_refused(load_model, graph_bytes):
    model = onnx.ModelProto.FromString(graph_bytes)
    model.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(ArtifactRejected, match="'text/1' cannot be loaded by openvino"):
        load_model(files={"model.onnx": model.SerializeToString()})


def test_a_manifest_that_names_other_inputs_is_refused(load_model, signature):
    other = Signature((TensorSpec("ids", "FP32", ("batch", "length")),), signature.outputs)
    with pytest.raises(ArtifactRejected, match="inputs"):
        load_model(signature=other)


@pytest.mark.parametrize(("precision", "hint"), [("fp32", "f32"), ("bf16", "bf16"), ("int8-static", "f32")])
def test_the_manifests_precision_is_what_openvino_is_asked_for(load_model, precision, hint):
    assert _settings(precision, 1, 1)["INFERENCE_PRECISION_HINT"] == hint
    load_model(precision=precision).run(_inputs([1]))


def test_importing_it_tells_nobody(tmp_path):
    """Its telemetry would leave an id in the home folder, and its module would be loaded."""
    program = (
        "import sys\nfrom engines.openvino import import_openvino\nimport_openvino()\n"
        "sys.exit(int('openvino_telemetry' in sys.modules))"
    )
    root = Path(__file__).parents[2]
    environment = {"PYTHONPATH": str(root), "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
    assert list(tmp_path.iterdir()) == []
