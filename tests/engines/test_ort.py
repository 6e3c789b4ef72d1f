from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest

from engines import ort
from engines.driver import Device, Driver
from engines.load import load
from engines.manifest import SessionOptions
from headrace.errors import ArtifactRejected, EngineFailed, TensorRejected
from headrace.tensors import Signature, TensorSpec


@pytest.fixture
def engine(publish):
    engine = load(publish(), threads=1)
    yield engine
    engine.close()


def _inputs(*rows: list[int]) -> dict[str, np.ndarray]:
    ids = np.array(rows, np.int64)
    return {"ids": ids, "mask": np.ones_like(ids)}


def test_rows_of_a_batch_are_answered_as_they_are_alone(engine):
    both = engine.run(_inputs([1, 2, 3], [4, 5, 6]))["vector"]
    assert both.shape == (2, 4)
    np.testing.assert_allclose(both[1:], engine.run(_inputs([4, 5, 6]))["vector"], rtol=1e-6)


@pytest.mark.parametrize(("threads", "streams", "pool"), [(1, 1, 1), (2, 1, 2), (1, 2, 1), (3, 2, 5)])
def test_batches_at_a_time_share_a_session_that_has_a_thread_for_each(publish, threads, streams, pool):
    """A caller computes its own batch, with the others of the pool."""
    engine = load(publish(), threads, streams)
    assert engine._session.get_session_options().intra_op_num_threads == pool
    rows = [_inputs([n % 100, (n * 7) % 100]) for n in range(64)]
    wanted = [engine.run(row)["vector"] for row in rows]
    with ThreadPoolExecutor(streams) as callers:
        found = list(callers.map(lambda row: engine.run(row)["vector"], rows * 5))
    np.testing.assert_array_equal(np.stack(found), np.stack(wanted * 5))


def test_a_share_of_a_gpu_is_used_where_this_build_can(monkeypatch, caplog):
    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    assert ort._providers(both, 0.0) == ["CPUExecutionProvider"]
    assert ort._providers(both[1:], 0.5) == ["CPUExecutionProvider"]
    assert "install onnxruntime-gpu" in caplog.text
    monkeypatch.setattr(ort, "find_driver", lambda: Driver("13.0", (Device("a GPU", "8.9", 16 << 30),)))
    (name, settings), cpu = ort._providers(both, 0.5)
    assert (name, cpu) == tuple(both)
    assert settings["gpu_mem_limit"] == str(8 << 30)


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
        {"ids": np.array([[1]])},
    ],
    ids=["value", "dtype", "rank", "missing"],
)
def test_what_the_model_cannot_take_is_the_callers_mistake(engine, inputs):
    with pytest.raises(TensorRejected) as rejected:
        engine.run(inputs)
    assert "Gather" not in str(rejected.value)
    assert "/" not in str(rejected.value)


def test_arrays_need_not_be_contiguous_or_of_this_machines_byte_order(engine):
    wanted = engine.run(_inputs([1, 2], [3, 4]))["vector"]
    turned = {name: np.asfortranarray(array).astype(">i8") for name, array in _inputs([1, 2], [3, 4]).items()}
    np.testing.assert_array_equal(engine.run(turned)["vector"], wanted)


def test_read_only_arrays_are_taken(engine):
    inputs = _inputs([1, 2])
    for array in inputs.values():
        array.flags.writeable = False
    engine.run(inputs)


def test_any_other_failure_says_nothing_of_the_inside(engine, monkeypatch):
    class Broken:
        def run(self, *_):
            raise RuntimeError("node /srv/model/MatMul_7 failed")

    monkeypatch.setattr(engine, "_session", Broken())
    with pytest.raises(EngineFailed, match=r"RuntimeError") as failed:
        engine.run(_inputs([1]))
    assert "MatMul" not in str(failed.value)


def test_a_closed_engine_runs_nothing(engine):
    engine.close()
    with pytest.raises(EngineFailed, match="closed"):
        engine.run(_inputs([1]))


@pytest.mark.parametrize("level", ["disabled", "basic", "extended", "all"])
def test_every_level_of_graph_optimization_loads(publish, level):
    session = SessionOptions(graph_optimization=level, disabled_optimizers=("SkipLayerNormFusion",))
    load(publish(session=session), threads=2).run(_inputs([1]))


def test_a_graph_that_onnxruntime_cannot_load_is_refused(publish, graph_bytes):
    model = onnx.ModelProto.FromString(graph_bytes)
    model.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(ArtifactRejected, match="'text/1' cannot be loaded by onnxruntime"):
        load(publish(files={"model.onnx": model.SerializeToString()}), threads=1)


def test_a_manifest_that_names_other_inputs_is_refused(publish, signature):
    other = Signature((TensorSpec("ids", "FP32", ("batch", "length")),), signature.outputs)
    with pytest.raises(ArtifactRejected, match="inputs"):
        load(publish(signature=other), threads=1)


def test_text_goes_in_and_comes_out_as_bytes(publish):
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["text"], ["same"])],
        "g",
        [value("text", onnx.TensorProto.STRING, ["batch"])],
        [value("same", onnx.TensorProto.STRING, ["batch"])],
    )
    opset = onnx.helper.make_opsetid("", 20)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=9)
    spec = [(TensorSpec(name, "BYTES", ("batch",)),) for name in ("text", "same")]
    engine = load(
        publish(files={"model.onnx": model.SerializeToString()}, signature=Signature(*spec), warm_up=()), 1
    )
    texts = np.array(["grüß".encode(), b""], object)
    assert engine.run({"text": texts})["same"].tolist() == texts.tolist()
    with pytest.raises(TensorRejected, match="UTF-8"):
        engine.run({"text": np.array([b"\xff"], object)})
