"""Plans built by the real TensorRT for RTX, which needs no GPU for it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.profiles import make_profiles
from engines.trt_build import CancelledError, Plan, Recipe, build
from engines.trt_library import RTX, find
from headrace.errors import ArtifactRejected, EngineFailed, EngineUnavailable
from headrace.tensors import Signature, TensorSpec

LIBRARY = find(RTX)
SIGNATURE = Signature(
    (TensorSpec("x", "FP32", ("batch", "length", 16)),),
    (TensorSpec("y", "FP32", ("batch", "length", 16)),),
    {"length": 64},
)
PROFILES = make_profiles(SIGNATURE, 8)
ADA = Recipe(PROFILES, ("8.9",))


def graph(nodes: list[onnx.NodeProto], **constants: np.ndarray) -> bytes:
    weights = np.random.default_rng(0).random((16, 16), np.float32)
    kept = {"w": weights, **constants}
    shape = ["batch", "length", 16]
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(array, name) for name, array in kept.items()],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("mine", 1)]
    return bytes(helper.make_model(made, opset_imports=opsets, ir_version=10).SerializeToString())


PLAIN = graph([helper.make_node("MatMul", ["x", "w"], ["y"], name="product")])


def quantized(zero_point: int) -> bytes:
    return graph(
        [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="quantize"),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], name="dequantize"),
            helper.make_node("MatMul", ["d", "w"], ["y"], name="product"),
        ],
        s=np.array(0.1, np.float32),
        z=np.array(zero_point, np.int8),
    )


class Watching:
    def __init__(self, steps: int) -> None:
        self.phases: list[str] = []
        self.open: set[str] = set()
        self._left = steps

    def began(self, phase: str, parent: str | None, steps: int) -> None:
        assert steps > 0
        assert parent is None or parent in self.open
        self.phases.append(phase)
        self.open.add(phase)

    def stepped(self, phase: str, step: int) -> bool:
        assert phase in self.open
        self._left -= 1
        return self._left > 0

    def ended(self, phase: str) -> None:
        self.open.remove(phase)


def built(data: bytes, recipe: Recipe = ADA, workspace_bytes: int | None = None) -> Plan:
    return build(LIBRARY, data, SIGNATURE, recipe, workspace_bytes=workspace_bytes)


def test_a_plan_is_built_with_several_profiles_for_one_architecture_after_the_other() -> None:
    assert len(PROFILES) == 3
    plans = [built(PLAIN, Recipe(PROFILES, (each,))).data for each in ("8.0", "8.9", "12.0")]
    assert all(len(plan) > 1000 for plan in plans)
    assert len(set(plans)) == 3


def test_one_plan_may_be_for_several_architectures() -> None:
    assert len(built(PLAIN, Recipe(PROFILES, ("8.0", "8.9", "12.0"))).data) > 1000


def test_symmetric_pairs_make_an_int8_plan() -> None:
    assert len(built(quantized(0)).data) > 1000


def test_an_asymmetric_pair_is_named_with_the_way_out() -> None:
    with pytest.raises(
        ArtifactRejected, match=r"node 'quantize' \(QuantizeLinear\).*quantize.*symmetrically"
    ):
        built(quantized(3))


def test_an_operator_that_it_lacks_is_named_with_its_node() -> None:
    unknown = graph([helper.make_node("Frob", ["x"], ["y"], name="odd", domain="mine")])
    with pytest.raises(ArtifactRejected, match=r"node 'odd' \(Frob\)"):
        built(unknown)


def test_bytes_that_are_no_graph_are_refused() -> None:
    with pytest.raises(ArtifactRejected, match="finds no graph"):
        built(b"hello")


def test_a_graph_without_its_profile_is_refused_in_the_librarys_words() -> None:
    with pytest.raises(EngineFailed, match="no optimization profile"):
        built(PLAIN, Recipe((), ("8.9",)))


def test_an_architecture_that_it_cannot_build_for_is_answered_with_those_that_it_can() -> None:
    with pytest.raises(EngineUnavailable, match=r"'9.0'; it has: 7.5, 8.0, 8.6, 8.9"):
        built(PLAIN, Recipe(PROFILES, ("9.0",)))


def test_too_little_workspace_is_told() -> None:
    with pytest.raises(EngineFailed, match="workspace"):
        built(PLAIN, ADA, workspace_bytes=1 << 10)


def test_every_phase_is_told_from_its_beginning_to_its_end() -> None:
    watching = Watching(10_000)
    build(LIBRARY, PLAIN, SIGNATURE, ADA, watching)
    assert watching.phases[0] == "Building engine"
    assert len(watching.phases) > 3
    assert not watching.open


def test_a_build_can_be_cancelled() -> None:
    with pytest.raises(CancelledError):
        build(LIBRARY, PLAIN, SIGNATURE, ADA, Watching(2))


def test_weights_may_be_sparse() -> None:
    assert len(built(PLAIN, Recipe(PROFILES, ("8.9",), is_sparse=True)).data) > 1000
