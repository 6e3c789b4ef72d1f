"""A compiled module as a kernel for `GpuRunner`: torch on the stream and in the memory that it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from engines.artifact import Artifact
from engines.gpu import Gpu, Stream
from engines.gpu_runner import Recorder
from engines.profiles import Profile, choose, largest_of, shape_of, sizes_of
from engines.slots import Place, Shape, Shapes
from headrace.errors import ArtifactRejected, EngineFailed
from headrace.tensors import TensorSpec

if TYPE_CHECKING:
    import torch

    Model = Callable[[dict[str, torch.Tensor]], list[torch.Tensor]]


class TorchDevice(Protocol):
    """Where torch computes."""

    def open(self) -> None:
        """Whatever torch does once, which no graph can hold."""
        ...

    def load(self, artifact: Artifact) -> Model: ...

    def tensor(self, spec: TensorSpec, address: int, shape: Shape) -> torch.Tensor:
        """The one that lies there."""
        ...

    def run(self, stream: Stream, work: Callable[[], None]) -> None:
        """Give the work to the stream. DeviceFull, EngineFailed."""
        ...

    def close(self) -> None:
        """Give back what torch has kept of memory."""
        ...


class AotKernel:
    """Batches of shapes that one of the profiles holds; the sizes of outputs are those of the inputs."""

    def __init__(self, artifact: Artifact, profiles: tuple[Profile, ...], device: TorchDevice) -> None:
        """ArtifactRejected when an output has a size that no input has."""
        self._artifact = artifact
        self._profiles = profiles
        self._device = device
        self._model: Model | None = None
        self._shapes: dict[str, Shape] = {}
        signature = artifact.manifest.signature
        self._inputs, self._outputs = signature.inputs, signature.outputs
        known = {dim for spec in self._inputs for dim in spec.shape}
        for spec in self._outputs:
            if unknown := [dim for dim in spec.shape if isinstance(dim, str) and dim not in known]:
                raise ArtifactRejected(
                    f"dimension {unknown[0]!r} of output {spec.name!r} is known only when it is computed: "
                    "leave the model on onnxruntime, or pad that output to a fixed size"
                )
        self.inputs = [self._place(spec) for spec in self._inputs]
        self.outputs = [self._place(spec) for spec in self._outputs]

    @property
    def num_bytes(self) -> int:
        return self._artifact.manifest.size_bytes()  # most of it is weights

    def open(self, gpu: Gpu) -> None:
        self._device.open()
        self._model = self._device.load(self._artifact)

    def place(self, shapes: Shapes) -> Shapes:
        """TensorRejected names the nearest profile when none holds the shapes."""
        sizes = sizes_of(self._inputs, shapes)
        choose(self._profiles, sizes)
        found = {spec.name: shape_of(spec, sizes) for spec in self._outputs}
        self._shapes = {**shapes, **found}
        return found

    def enqueue(self, addresses: Mapping[str, int], stream: Stream) -> None:
        self.recorder(addresses).enqueue(stream)

    def recorder(self, addresses: Mapping[str, int]) -> Recorder:
        if self._model is None:
            raise EngineFailed("the engine is closed")

        def at(spec: TensorSpec) -> torch.Tensor:
            return self._device.tensor(spec, addresses[spec.name], self._shapes[spec.name])

        given = {spec.name: at(spec) for spec in self._inputs}
        return _Work(self._device, self._model, given, [at(spec) for spec in self._outputs])

    def close(self) -> None:
        self._model = None
        self._device.close()

    def _place(self, spec: TensorSpec) -> Place:
        shapes = [shape_of(spec, profile.largest) for profile in self._profiles]
        return Place(spec.name, spec.dtype, largest_of(shapes))


class _Work:
    """The model, from its inputs where they lie to its outputs where they are to be."""

    def __init__(
        self, device: TorchDevice, model: Model, given: dict[str, torch.Tensor], targets: list[torch.Tensor]
    ) -> None:
        self._device = device
        self._model = model
        self._given = given
        self._targets = targets

    def enqueue(self, stream: Stream) -> None:
        self._device.run(stream, self._run)

    def _run(self) -> None:
        for target, found in zip(self._targets, self._model(self._given), strict=True):
            target.copy_(found, non_blocking=True)
