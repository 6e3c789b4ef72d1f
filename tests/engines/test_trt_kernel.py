"""A plan's batches, in TensorRT's runtime and on a GPU that are both on paper."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engines.gpu import DeviceFull
from engines.gpu_runner import GpuRunner
from engines.profiles import make_profiles
from engines.trt_kernel import TrtKernel
from headrace.errors import ArtifactRejected, EngineFailed, EngineUnavailable, TensorRejected
from headrace.tensors import Array, Signature, TensorSpec
from tests.engines import paper_trt
from tests.engines.paper_gpu import PaperGpu

SHAPE = ("batch", "length")
SIGNATURE = Signature((TensorSpec("x", "FP32", SHAPE),), (TensorSpec("y", "FP32", SHAPE),), {"length": 64})
PROFILES = make_profiles(SIGNATURE, 4)
RANGES = [([1, profile.smallest["length"]], [4, profile.largest["length"]]) for profile in PROFILES]


def runner(gpu: PaperGpu, **told: Any) -> tuple[GpuRunner, Any]:
    library = paper_trt.library(gpu)
    kernel = TrtKernel(library, paper_trt.plan(**{"profiles": RANGES, **told}), SIGNATURE, PROFILES)
    return GpuRunner(gpu, kernel), library.module


def run(found: GpuRunner, rows: int, length: int) -> None:
    x: Array = np.random.default_rng(rows * length).standard_normal((rows, length)).astype(np.float32)
    np.testing.assert_array_equal(found.run({"x": x}, ("y",))["y"], x + np.float32(1))


def test_each_batch_runs_in_the_profile_that_holds_it() -> None:
    gpu = PaperGpu()
    found, trt = runner(gpu)
    found.start()
    for number in range(40):
        run(found, 1 + number % 4, 1 + (7 * number) % 64)
    (engine,) = trt.engines
    assert [context.profile for context in engine.contexts] == [0, 1, 2]
    assert all("shape" in context.calls for context in engine.contexts)
    found.close()
    assert gpu.is_empty()


def test_without_room_for_a_graphs_context_it_runs_without_graphs() -> None:
    gpu = PaperGpu()
    found, trt = runner(gpu, most_contexts=len(PROFILES) + 1)
    found.start()
    for _ in range(6):
        run(found, 2, 5)
    assert found.num_graphs == 1  # of the two slots
    assert len(trt.engines[0].contexts) == len(PROFILES) + 1
    found.close()
    assert gpu.is_empty()


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"most_contexts": 1}, "no room for a context"),
        ({"release": 0, "why": "out of memory"}, "out of memory"),
    ],
)
def test_too_little_memory_is_told_and_no_reason_to_build_the_plan_anew(
    told: dict[str, Any], why: str
) -> None:
    gpu = PaperGpu()
    found, _ = runner(gpu, **told)
    with pytest.raises(DeviceFull, match=why):
        found.start()
    assert gpu.is_empty()


def test_the_inspector_is_asked_for_the_layers() -> None:
    gpu = PaperGpu()
    kernel = TrtKernel(paper_trt.library(gpu), paper_trt.plan(profiles=RANGES), SIGNATURE, PROFILES)
    runner = GpuRunner(gpu, kernel)
    runner.start()
    assert kernel.inspection is not None
    assert kernel.inspection.in_words == "3 layers after fusion: 3 in FP32"
    runner.close()
    assert gpu.is_empty()


def test_shapes_and_addresses_are_set_when_they_change() -> None:
    gpu = PaperGpu()
    found, trt = runner(gpu)
    found.start()
    (context, *_) = trt.engines[0].contexts
    for _ in range(4):  # twice in each slot: as it is, and captured
        run(found, 2, 5)
    context.calls.clear()
    for _ in range(10):
        run(found, 2, 5)
    assert context.calls == []  # replayed, each slot with its own addresses
    run(found, 2, 6)
    assert context.calls.count("shape") == 1
    found.close()


def test_what_no_profile_holds_is_the_callers_mistake_with_the_nearest_named() -> None:
    found, _ = runner(PaperGpu())
    found.start()
    with pytest.raises(TensorRejected, match="batch 5 and length 60; the nearest one takes batch 1 to 4 and"):
        found.run({"x": np.ones((5, 60), np.float32)}, ("y",))
    run(found, 4, 60)
    found.close()


def test_a_plan_of_another_release_is_refused_with_the_librarys_words() -> None:
    gpu = PaperGpu()
    found, _ = runner(gpu, release=2)
    with pytest.raises(
        EngineUnavailable, match=r"does not take the plan \(built by another release\).*build it"
    ):
        found.start()
    assert gpu.is_empty()


@pytest.mark.parametrize(
    ("told", "match"),
    [
        ({"dtype": "HALF"}, "those of the plan are {'x': 'FP16'}"),
        ({"profiles": RANGES[:1]}, "the plan has 1 profiles, not 3"),
        ({"dynamic": True}, "size of output 'y' is known only when it is computed"),
    ],
)
def test_a_plan_that_is_not_the_manifests_model_is_refused(told: dict[str, Any], match: str) -> None:
    gpu = PaperGpu()
    found, _ = runner(gpu, **told)
    with pytest.raises(ArtifactRejected, match=match):
        found.start()
    assert gpu.is_empty()


def test_a_batch_that_cannot_run_is_told_in_the_librarys_words() -> None:
    found, _ = runner(PaperGpu(), fails=True)
    found.start()
    with pytest.raises(EngineFailed, match="could not run this batch: no kernel for this"):
        found.run({"x": np.ones((1, 5), np.float32)}, ("y",))
    found.close()


def test_too_little_memory_for_the_scratch_is_told() -> None:
    gpu = PaperGpu(capacity=2500)
    found, _ = runner(gpu)
    with pytest.raises(EngineUnavailable, match="memory"):
        found.start()
    assert gpu.is_empty()
