"""Other engines are tried with the version's own graph, and only those that answer as it does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engines.artifact import Artifact, Repository
from engines.manifest import Machine
from engines.probe import probe
from headrace.errors import ConfigRejected
from optimize.tune import Candidate, Fixed, candidates, tune
from optimize.tune_engines import agreeing, alternatives
from tests.onnx_models import publish_all

SEEN = [({"length": length}, 1) for length in (3, 9, 30)]
SIZES = [sizes for sizes, _ in SEEN]
needs_openvino = pytest.mark.skipif(bool(probe("openvino")), reason=probe("openvino") or "-")


@pytest.fixture
def double(tmp_path: Path) -> Artifact:
    return publish_all(tmp_path / "models").open("double", "1")


def test_its_own_engine_is_no_other(double: Artifact, tmp_path: Path) -> None:
    assert alternatives(double, ["onnxruntime"], tmp_path) == {}


@pytest.mark.parametrize(
    ("engine", "told"),
    [("tensorrt", "tune chooses among onnxruntime and openvino"), ("abacus", "is unknown")],
)
def test_engines_that_run_no_graph_on_a_cpu_are_refused(
    double: Artifact, tmp_path: Path, engine: str, told: str
) -> None:
    with pytest.raises(ConfigRejected, match=told):
        alternatives(double, [engine], tmp_path)


def test_a_version_for_a_gpu_has_no_others(double: Artifact, tmp_path: Path) -> None:
    other = replace(double, manifest=double.manifest.model_copy(update={"engine": "tensorrt"}))
    with pytest.raises(ConfigRejected, match="'double/1' is for tensorrt, and openvino was asked for"):
        alternatives(other, ["openvino"], tmp_path)


def test_every_set_up_is_tried_on_each_engine_and_its_own_is_simpler(double: Artifact) -> None:
    alone, default = candidates(double.manifest, 2, Fixed(), ())
    both, same = candidates(double.manifest, 2, Fixed(), (), ["openvino"])
    assert same == default
    assert [candidate for candidate in both if not candidate.engine] == alone
    assert len(both) == 2 * len(alone)
    own, other = (Candidate(2, 2, 2, 32, 0.25, "buckets"), Candidate(1, 1, 1, 4, 0.05, "exact", "openvino"))
    assert own.simplicity < other.simplicity


@needs_openvino
def test_an_engine_that_answers_alike_is_measured_in_the_same_rounds(
    double: Artifact, tmp_path: Path
) -> None:
    others = alternatives(double, ["openvino", "openvino"], tmp_path / "others")
    found, least = agreeing(double, others, SIZES)
    assert found["openvino"].manifest.engine == "openvino"
    assert least["openvino"] > 0.999
    settled = Fixed(instances=1, streams=1, threads=1, max_batch=4, max_padding=0.1, grouping="nearest")
    machine = Machine(cpu="some", cores=2)
    outcome = tune(double, SEEN, machine, seconds=0.6, clients=8, fixed=settled, others=found)
    assert {row.candidate.engine for row in outcome.rows} == {"", "openvino"}
    assert len({len(row.turns) for row in outcome.rows}) == 1
    assert all(row.rate > 0 for row in outcome.rows)


@needs_openvino
def test_an_engine_that_answers_otherwise_is_left_out(double: Artifact, tmp_path: Path) -> None:
    others = alternatives(double, ["openvino"], tmp_path / "others")
    shelf = Repository(tmp_path / "wrong")
    wrong = shelf.publish(
        "double",
        "1",
        {"model.onnx": _negated(others["openvino"])},
        graph="model.onnx",
        signature=double.manifest.signature,
        engine="openvino",
    )
    found, least = agreeing(double, {"openvino": wrong}, SIZES)
    assert found == {}
    assert least["openvino"] < 0


def _negated(artifact: Artifact) -> bytes:
    """The graph with its only factor turned round."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(artifact.graph_path)
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(tensor), tensor.name))
    for node in model.graph.node:
        for part in node.attribute:
            if part.HasField("t"):
                part.t.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(part.t), part.t.name))
    return bytes(model.SerializeToString())
