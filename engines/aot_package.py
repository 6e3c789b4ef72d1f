"""Packages of AOTInductor, and what they say of themselves before anything of them runs."""

from __future__ import annotations

import io
import json
import logging
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engines.artifact import Artifact
from headrace.errors import ArtifactRejected
from headrace.tensors import TensorSpec

if TYPE_CHECKING:
    import torch

_log = logging.getLogger(__name__)

# The protocol's names for the datatypes that torch has, and torch's own.
TORCH_DTYPES = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "BF16": "bfloat16",
    "FP32": "float32",
    "FP64": "float64",
}
METADATA = "_metadata.json"


@dataclass(frozen=True, slots=True)
class Made:
    """What a package was compiled for."""

    device: str  # "cpu" or "cuda"
    architecture: str  # of a GPU: compute capability, as "8.9"

    @property
    def in_words(self) -> str:
        return f"a GPU of compute capability {self.architecture}" if self.device == "cuda" else "a CPU"


def made_for(artifact: Artifact) -> Made:
    """ArtifactRejected when the graph is no package."""
    manifest = artifact.manifest
    try:
        with zipfile.ZipFile(io.BytesIO(artifact.read(manifest.graph))) as package:
            (name, *_) = [name for name in package.namelist() if name.endswith(METADATA)]
            told = json.loads(package.read(name))
        capability = str(told["AOTI_COMPUTE_CAPABILITY"])
        return Made(
            str(told["AOTI_DEVICE_KEY"]), f"{capability[:-1]}.{capability[-1:]}" if capability else ""
        )
    except (zipfile.BadZipFile, ValueError, KeyError, TypeError) as err:
        raise ArtifactRejected(
            f"'{manifest.graph}' of '{manifest.name}/{manifest.version}' is no package of AOTInductor "
            f"({type(err).__name__}); compile it with: headrace optimize ... --target aot"
        ) from err


def load_package(artifact: Artifact, *, is_single_threaded: bool = False) -> Any:
    """The package's function, from verified bytes: of a dict of tensors, to the outputs in order.

    ArtifactRejected when this release of torch does not take it.
    """
    from torch._inductor import aoti_load_package

    try:
        data = io.BytesIO(artifact.read(artifact.manifest.graph))
        return aoti_load_package(data, run_single_threaded=is_single_threaded)
    except Exception as err:
        raise not_loaded(artifact, err) from err


def not_loaded(artifact: Artifact, err: Exception) -> ArtifactRejected:
    """What to raise when this release of torch does not take a package; why is for the log."""
    import torch

    manifest = artifact.manifest
    _log.exception("%s/%s cannot be loaded", manifest.name, manifest.version)
    return ArtifactRejected(
        f"'{manifest.graph}' of '{manifest.name}/{manifest.version}' cannot be loaded by torch "
        f"{torch.__version__} ({type(err).__name__}); compile it with this release"
    )


def check_dtypes(artifact: Artifact) -> None:
    """ArtifactRejected for tensors that torch has not."""
    manifest = artifact.manifest
    specs = (*manifest.signature.inputs, *manifest.signature.outputs)
    if others := [f"{spec.name}: {spec.dtype}" for spec in specs if spec.dtype not in TORCH_DTYPES]:
        raise ArtifactRejected(
            f"'{manifest.name}/{manifest.version}' takes or gives {', '.join(others)}; torch has "
            f"{', '.join(sorted(TORCH_DTYPES))}"
        )


def torch_dtype(spec: TensorSpec) -> torch.dtype:
    import torch

    found: torch.dtype = getattr(torch, TORCH_DTYPES[spec.dtype])
    return found
