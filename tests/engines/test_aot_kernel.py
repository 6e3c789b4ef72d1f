"""A package compiled for this processor as a GPU's kernel, on a GPU on paper: real kernels in its memory."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engines.aot_kernel import AotKernel
from engines.aot_package import load_package, torch_dtype
from engines.artifact import Artifact
from engines.gpu import DeviceFull, Stream
from engines.gpu_runner import GpuRunner
from engines.profiles import make_profiles
from engines.slots import Shape, num_bytes
from headrace.errors import ArtifactRejected, EngineUnavailable, TensorRejected
from headrace.tensors import Signature, TensorSpec
from optimize.compiled import why_not
from tests.engines.modules import SIGNATURE, compiled, inputs, wanted
from tests.engines.paper_gpu import PaperGpu, PaperStream

pytestmark = pytest.mark.skipif(bool(why_not("aot")), reason=why_not("aot") or "-")
PROFILES = make_profiles(SIGNATURE, 8)


class PaperTorch:
    """torch in the memory of a GPU on paper, at the time when its stream comes to it."""

    def __init__(self, gpu: PaperGpu) -> None:
        self.gpu = gpu
        self.is_open = False
        self.is_full = False

    def open(self) -> None:
        self.is_open = True

    def load(self, artifact: Artifact) -> Any:
        return load_package(artifact, is_single_threaded=True)

    def tensor(self, spec: TensorSpec, address: int, shape: Shape) -> torch.Tensor:
        bits = self.gpu.memory[address].array[: num_bytes(spec.dtype, shape)]
        return torch.from_numpy(bits).view(torch_dtype(spec)).reshape(shape)

    def run(self, stream: Stream, work: Callable[[], None]) -> None:
        assert isinstance(stream, PaperStream)
        if self.is_full:
            raise DeviceFull("no memory left")

        def step() -> bool:
            work()
            return True

        stream.push(step)

    def close(self) -> None:
        self.is_open = False


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return compiled(tmp_path_factory.mktemp("compiled"))


@pytest.mark.parametrize("seed", range(3))
def test_batches_of_every_shape_are_answered_whatever_the_streams_do(artifact: Artifact, seed: int) -> None:
    gpu = PaperGpu(seed)
    device = PaperTorch(gpu)
    runner = GpuRunner(gpu, AotKernel(artifact, PROFILES, device))
    runner.start()
    batches = [inputs(1 + n % 8, 1 + (7 * n) % 64, n) for n in range(30)] * 4
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda batch: runner.run(batch, ("sum", "same")), batches))
    for batch, found in zip(batches, answers, strict=True):
        np.testing.assert_allclose(found["sum"], wanted(batch), rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(found["same"], batch["ids"])
    assert runner.num_graphs > 0
    assert gpu.launched > 0
    runner.close()
    assert gpu.is_empty()
    assert not device.is_open


def test_a_shape_beyond_every_profile_is_refused_and_names_the_nearest(artifact: Artifact) -> None:
    gpu = PaperGpu()
    runner = GpuRunner(gpu, AotKernel(artifact, PROFILES, PaperTorch(gpu)))
    runner.start()
    with pytest.raises(TensorRejected, match=r"no profile holds batch 2 and length 65; the near"):
        runner.run(inputs(2, 65), ("sum",))
    runner.close()


def test_a_batch_that_finds_no_memory_leaves_the_next_one_to_run(artifact: Artifact) -> None:
    gpu = PaperGpu()
    device = PaperTorch(gpu)
    runner = GpuRunner(gpu, AotKernel(artifact, PROFILES, device))
    runner.start()
    device.is_full = True
    with pytest.raises(DeviceFull):
        runner.run(inputs(2, 5), ("sum",))
    device.is_full = False
    batch = inputs(2, 5)
    np.testing.assert_allclose(runner.run(batch, ("sum",))["sum"], wanted(batch), rtol=1e-4)
    runner.close()


def test_weights_and_batches_that_have_no_room_are_refused_before_it_loads(artifact: Artifact) -> None:
    gpu = PaperGpu(capacity=1 << 10)
    with pytest.raises(EngineUnavailable, match="MiB of the GPU's memory"):
        GpuRunner(gpu, AotKernel(artifact, PROFILES, PaperTorch(gpu))).start()
    assert gpu.is_empty()


def test_outputs_whose_size_no_input_has_are_refused(artifact: Artifact) -> None:
    signature = Signature(
        SIGNATURE.inputs, (TensorSpec("found", "FP32", ("batch", "boxes")),), {"length": 64}
    )
    other = replace(artifact, manifest=artifact.manifest.model_copy(update={"signature": signature}))
    with pytest.raises(ArtifactRejected, match="dimension 'boxes' of output 'found' is known only when"):
        AotKernel(other, PROFILES, PaperTorch(PaperGpu()))


def test_no_path_is_read_but_the_verified_bytes(artifact: Artifact, tmp_path: Path) -> None:
    (tmp_path / artifact.manifest.graph).write_bytes(b"another")
    with pytest.raises(ArtifactRejected):
        load_package(replace(artifact, folder=tmp_path))
