"""A torch module compiled ahead of time (AOTInductor): fused kernels in native code, on a CPU.

The package is a program. It runs only where the configuration trusts it (`run_code`), and only on a processor
that has the instructions it was compiled for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from engines.aot_container import Container
from engines.aot_package import check_dtypes, made_for
from engines.artifact import Artifact
from engines.cpu import cpu_flags
from engines.examples import example_inputs
from headrace.errors import EngineUnavailable
from headrace.tensors import Array, Signature, TensorMap

if TYPE_CHECKING:
    import torch


class AotEngine:
    """A compiled module, `streams` batches at a time, each computed by `threads` threads of the one that
    calls."""

    def __init__(self, artifact: Artifact, threads: int, streams: int = 1) -> None:
        import torch

        manifest = artifact.manifest
        _check(artifact)
        self._torch = torch
        self._threads = threads
        self._signature = manifest.signature
        self._warm_up = manifest.warm_up
        torch.set_num_threads(threads)
        self._container = Container(artifact, streams)

    @property
    def signature(self) -> Signature:
        return self._signature

    def warm_up(self) -> None:
        for sizes in self._warm_up:
            self.run(example_inputs(self._signature, sizes))

    def run(self, batch: TensorMap, outputs: tuple[str, ...] = ()) -> dict[str, Array]:
        self._signature.check_outputs(outputs)
        # Compiled code looks at no shape: it reads beyond the end of what is smaller than it was told.
        self._signature.check(batch)
        if self._torch.get_num_threads() != self._threads:  # of this thread
            self._torch.set_num_threads(self._threads)
        found = self._container.run([self._tensor(batch[name]) for name in self._container.inputs])
        named = {spec.name: tensor for spec, tensor in zip(self._signature.outputs, found, strict=True)}
        return {name: _array(named[name]) for name in outputs or named}

    def close(self) -> None:
        self._container.close()

    def _tensor(self, array: Array) -> torch.Tensor:
        native = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="), copy=False))
        if not native.flags.writeable:  # torch would warn; the code writes nothing there
            native = native.view()
            native = np.require(native, requirements=["C", "W"])
        if native.dtype.name == "bfloat16":
            return self._torch.from_numpy(native.view(np.int16)).view(self._torch.bfloat16)
        return self._torch.from_numpy(native)


def _array(tensor: torch.Tensor) -> Array:
    import ml_dtypes
    import torch

    if tensor.dtype == torch.bfloat16:
        bits: Array = tensor.contiguous().view(torch.int16).numpy()
        return bits.view(ml_dtypes.bfloat16)
    found: Array = tensor.contiguous().numpy()
    return found


def _check(artifact: Artifact) -> None:
    """ArtifactRejected for tensors that torch has not, EngineUnavailable on another kind of processor."""
    check_dtypes(artifact)
    manifest, made = artifact.manifest, made_for(artifact)
    if made.device != "cpu":
        raise EngineUnavailable(
            f"'{manifest.name}/{manifest.version}' was compiled for {made.in_words}: publish it for aot-cuda"
        )
    if missing := sorted(set(manifest.cpu_flags) - set(cpu_flags())):
        raise EngineUnavailable(
            f"'{manifest.name}/{manifest.version}' was compiled for a CPU with {', '.join(missing)}, which "
            "this one lacks: compile it here, headrace optimize ... --target aot"
        )
