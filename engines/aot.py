"""A torch module compiled ahead of time (AOTInductor): fused kernels in native code, on a CPU or a GPU.

The package is a program. It runs only where the configuration trusts it (`run_code`), and only on a processor
that has the instructions it was compiled for.
"""

from __future__ import annotations

import io
import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.artifact import Artifact
from engines.cpu import cpu_flags
from engines.examples import example_inputs
from headrace.errors import ArtifactRejected, EngineFailed, EngineUnavailable
from headrace.tensors import Array, Signature, TensorMap

if TYPE_CHECKING:
    import torch

_log = logging.getLogger(__name__)

# The datatypes that torch shares with numpy; BF16 goes by its bits.
_DTYPES = frozenset({"BOOL", "UINT8", "INT8", "INT16", "INT32", "INT64", "FP16", "BF16", "FP32", "FP64"})


class AotEngine:
    """A compiled module, each batch computed by `threads` threads of the one that calls."""

    def __init__(self, artifact: Artifact, threads: int) -> None:
        import torch
        from torch._inductor import aoti_load_package

        manifest = artifact.manifest
        _check(artifact)
        self._torch = torch
        self._threads = threads
        self._signature = manifest.signature
        self._warm_up = manifest.warm_up
        torch.set_num_threads(threads)
        try:
            self._model: Any = aoti_load_package(io.BytesIO(artifact.read(manifest.graph)))
        except Exception as err:
            _log.exception("torch cannot load %s/%s", manifest.name, manifest.version)
            raise ArtifactRejected(
                f"'{manifest.graph}' of '{manifest.name}/{manifest.version}' cannot be loaded by torch "
                f"{torch.__version__} ({type(err).__name__}); compile it with this release"
            ) from err

    @property
    def signature(self) -> Signature:
        return self._signature

    def warm_up(self) -> None:
        for sizes in self._warm_up:
            self.run(example_inputs(self._signature, sizes))

    def run(self, batch: TensorMap, outputs: tuple[str, ...] = ()) -> dict[str, Array]:
        if self._model is None:
            raise EngineFailed("the engine is closed")
        self._signature.check_outputs(outputs)
        # Compiled code looks at no shape: it reads beyond the end of what is smaller than it was told.
        self._signature.check(batch)
        if self._torch.get_num_threads() != self._threads:  # of this thread
            self._torch.set_num_threads(self._threads)
        try:
            given = {spec.name: self._tensor(batch[spec.name]) for spec in self._signature.inputs}
            found = self._model(given)
        except Exception as err:
            _log.exception("compiled code failed")
            raise EngineFailed(f"the engine failed on this batch ({type(err).__name__})") from err
        named = {spec.name: tensor for spec, tensor in zip(self._signature.outputs, found, strict=True)}
        return {name: _array(named[name]) for name in outputs or named}

    def close(self) -> None:
        self._model = None

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
    manifest = artifact.manifest
    specs = (*manifest.signature.inputs, *manifest.signature.outputs)
    if others := [f"{spec.name}: {spec.dtype}" for spec in specs if spec.dtype not in _DTYPES]:
        raise ArtifactRejected(
            f"'{manifest.name}/{manifest.version}' takes or gives {', '.join(others)}; torch has "
            f"{', '.join(sorted(_DTYPES))}"
        )
    if missing := sorted(set(manifest.cpu_flags) - set(cpu_flags())):
        raise EngineUnavailable(
            f"'{manifest.name}/{manifest.version}' was compiled for a CPU with {', '.join(missing)}, which "
            "this one lacks: compile it here, headrace optimize ... --target aot"
        )
