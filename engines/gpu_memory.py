"""How much of a GPU's memory a version is known to need before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engines.manifest import Manifest
from engines.profiles import Sizes, make_profiles
from engines.slots import num_bytes
from headrace.tensors import TensorSpec

CUDA = 400 << 20  # bytes: what the driver and the libraries take for a process, about


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes for one replica. A plan's scratch memory is not among them: nobody knows it before."""

    weights: int
    batches: int
    cuda: int = CUDA

    @property
    def total(self) -> int:
        return self.weights + self.batches + self.cuda


def least(manifest: Manifest, max_batch: int, buckets: Sequence[Sizes], depth: int) -> Need:
    """What a replica takes at least, with `depth` batches of the largest shapes on the GPU."""
    profiles = make_profiles(manifest.signature, max_batch, buckets)
    specs = (*manifest.signature.inputs, *manifest.signature.outputs)
    largest = max(sum(_bytes(spec, profile.largest) for spec in specs) for profile in profiles)
    return Need(manifest.size_bytes(), depth * largest)


def _bytes(spec: TensorSpec, sizes: Sizes) -> int:
    """At these sizes; an output's dimension that no input has counts once."""
    return num_bytes(
        spec.dtype, tuple(dim if isinstance(dim, int) else sizes.get(dim, 1) for dim in spec.shape)
    )
