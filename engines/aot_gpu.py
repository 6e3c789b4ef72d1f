"""A torch module compiled ahead of time for a GPU: fused kernels on Tensor Cores, replayed as CUDA graphs."""

from __future__ import annotations

from collections.abc import Sequence

from engines.aot_kernel import AotKernel
from engines.aot_package import check_dtypes, made_for
from engines.artifact import Artifact
from engines.driver import find_driver
from engines.gpu_engine import MAX_BATCH, GpuEngine
from engines.gpu_memory import least
from engines.gpu_runner import DEPTH, GpuRunner
from engines.profiles import Sizes, make_profiles
from engines.torch_cuda import TorchCuda, TorchGpu
from headrace.errors import EngineUnavailable

_LEAST_REST = 64 << 20  # bytes for computing, whatever a share leaves


class AotGpuEngine(GpuEngine):
    """A compiled module on a GPU like the one that it was compiled on."""

    def __init__(
        self,
        artifact: Artifact,
        max_batch: int = MAX_BATCH,
        buckets: Sequence[Sizes] = (),
        gpu_share: float = 1.0,
    ) -> None:
        """EngineUnavailable when there is no such GPU, or no room on it."""
        check_dtypes(artifact)
        made = made_for(artifact)
        manifest = artifact.manifest
        device = find_driver().devices[0]
        if (made.device, made.architecture) != ("cuda", device.architecture):
            raise EngineUnavailable(
                f"'{manifest.name}/{manifest.version}' was compiled for {made.in_words}, and here is "
                f"{device.name} ({device.architecture}): compile it here, headrace optimize ... --target "
                "aot-cuda"
            )
        _check_torch()
        profiles = make_profiles(manifest.signature, max_batch, buckets)
        share_bytes = device.part(gpu_share)
        known = least(manifest, max_batch, buckets, DEPTH).total
        rest = None if share_bytes is None else max(_LEAST_REST, share_bytes - known)
        kernel = AotKernel(artifact, profiles, TorchCuda(rest))
        runner = GpuRunner(TorchGpu(), kernel, budget_bytes=share_bytes)
        super().__init__(artifact, max_batch, runner)


def _check_torch() -> None:
    import torch

    if not torch.cuda.is_available():
        raise EngineUnavailable(
            f"engine 'aot-cuda' unavailable: torch {torch.__version__} is built without CUDA, or for a newer "
            "driver; install the torch of your driver's CUDA"
        )
