"""A plan in TensorRT's runtime, on the GPU's thread: one context for each profile, which share their scratch
memory, since one batch computes at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engines.gpu import DeviceFull, Gpu, Memory, Stream
from engines.gpu_runner import Recorder
from engines.profiles import Profile, choose, largest_of, shape_of, sizes_of
from engines.slots import Place, Shape, Shapes
from engines.trt_inspect import Inspection, inspected
from engines.trt_library import RTX, Library, log_of
from headrace.errors import ArtifactRejected, EngineFailed, EngineUnavailable
from headrace.tensors import Signature, TensorSpec

# TensorRT's names for the datatypes of the protocol.
TRT_DTYPES = {
    "BOOL": "BOOL",
    "UINT8": "UINT8",
    "INT8": "INT8",
    "INT32": "INT32",
    "INT64": "INT64",
    "HALF": "FP16",
    "BF16": "BF16",
    "FLOAT": "FP32",
}


class PlanRefused(EngineUnavailable):
    """The library does not take the plan: it may have been built elsewhere, or by another release."""


class TrtKernel:
    """For `GpuRunner`. The plan must come from whom this process trusts: it is run unchecked."""

    def __init__(
        self, library: Library, plan: bytes, signature: Signature, profiles: Sequence[Profile]
    ) -> None:
        self._library = library
        self._plan = plan
        self._num_bytes = len(plan)  # most of it is weights
        self._size = 0  # of the scratch memory
        self._signature = signature
        self._profiles = profiles
        self._log = log_of(library.module)
        self._engine: Any = None
        self._contexts: list[Any] = []
        self._told: list[dict[str, object]] = []  # shapes and addresses, by context: set when they change
        self._scratch: Memory | None = None
        self._stream: Stream | None = None  # for setting up
        self._active = 0
        self._placed: Shapes = {}
        self.inspection: Inspection | None = None  # once it is open
        self.inputs: list[Place] = []
        self.outputs: list[Place] = []

    @property
    def num_bytes(self) -> int:
        return self._num_bytes + self._size

    def open(self, gpu: Gpu) -> None:
        """EngineUnavailable when the library does not take the plan, ArtifactRejected when it is not the
        model that the manifest tells of."""
        trt = self._library.module
        self._runtime = trt.Runtime(self._log)
        self._check_validity()
        self._engine = self._runtime.deserialize_cuda_engine(self._plan)
        if self._engine is None:
            why = self._log.why()
            if "memory" in why.lower():
                raise DeviceFull(f"{self._library.in_words} has no room for the plan: {why}")
            raise PlanRefused(
                f"{self._library.in_words} does not take the plan ({why}); a plan is for one kind of GPU and "
                "one release: build it here"
            )
        self._plan = b""
        self._compare()
        numbers = range(len(self._profiles))
        self._size = max(self._engine.get_device_memory_size_for_profile_v2(number) for number in numbers)
        self._scratch = gpu.allocate(max(1, self._size))
        self._stream = gpu.stream()
        for number in numbers:
            self._contexts.append(self._context(number))
            self._told.append({})
        self.inspection = self._inspected()
        self.inputs = [Place(spec.name, spec.dtype, self._largest(spec)) for spec in self._signature.inputs]
        self.outputs = self._measured_outputs()

    def place(self, shapes: Shapes) -> Shapes:
        """TensorRejected names the nearest profile when none holds the shapes."""
        self._active, self._placed = choose(self._profiles, sizes_of(self._signature.inputs, shapes)), shapes
        return self._shapes_of_outputs(self._active, shapes)

    def enqueue(self, addresses: Mapping[str, int], stream: Stream) -> None:
        context, told = self._contexts[self._active], self._told[self._active]
        for name, address in addresses.items():
            if told.get(f"at {name}") != address:
                context.set_tensor_address(name, address)
                told[f"at {name}"] = address
        _execute(context, stream, self._log)

    def recorder(self, addresses: Mapping[str, int]) -> Recorder:
        """In a context of its own: another shape or address in the same one would spoil its graphs."""
        context = self._context(self._active)
        for name, shape in self._placed.items():
            context.set_input_shape(name, shape)
        for name, address in addresses.items():
            context.set_tensor_address(name, address)
        return _Recorder(context, self._log)

    def close(self) -> None:
        """In this order: contexts, their memory, the engine, its runtime."""
        self._contexts.clear()
        self._stream = None
        self._told.clear()
        if self._scratch is not None:
            self._scratch.free()
            self._scratch = None
        self._engine = None
        self._runtime = None

    def _context(self, number: int) -> Any:
        """Of a profile, in the scratch memory that all share, since one batch computes at a time."""
        trt, engine = self._library.module, self._engine
        assert self._scratch is not None
        assert self._stream is not None
        how = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if self._library.name == RTX:  # it makes kernels while it runs, so it makes graphs by itself, too
            config = engine.create_runtime_config()
            config.set_execution_context_allocation_strategy(how)
            config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            how = config
        context = engine.create_execution_context(how)
        if context is None:
            raise DeviceFull(f"{self._library.in_words} made no context: {self._log.why()}")
        if not context.set_optimization_profile_async(number, self._stream.handle):
            raise EngineFailed(f"{self._library.in_words} made no context: {self._log.why()}")
        context.set_device_memory(self._scratch.address, self._size)
        self._stream.synchronize()
        return context

    def _inspected(self) -> Inspection | None:
        inspector = self._engine.create_engine_inspector()
        return inspected(
            str(inspector.get_engine_information(self._library.module.LayerInformationFormat.JSON))
        )

    def _check_validity(self) -> None:
        """RTX tells before it loads a plan whether it can."""
        ask = getattr(self._runtime, "get_engine_validity", None)
        if ask is None:
            return
        validity, reasons = ask(self._plan)
        if validity == self._library.module.EngineValidity.INVALID:
            raise PlanRefused(
                f"{self._library.in_words} does not take the plan (reasons: {int(reasons):#x}); a plan is "
                "for certain GPUs and one release: build it here"
            )

    def _compare(self) -> None:
        trt, engine = self._library.module, self._engine
        real: dict[bool, dict[str, str]] = {True: {}, False: {}}
        for number in range(engine.num_io_tensors):
            name = engine.get_tensor_name(number)
            dtype = str(engine.get_tensor_dtype(name).name)
            is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
            real[is_input][name] = TRT_DTYPES.get(dtype, dtype)
        for kind, specs in (("inputs", self._signature.inputs), ("outputs", self._signature.outputs)):
            told = {spec.name: spec.dtype for spec in specs}
            if told != real[kind == "inputs"]:
                raise ArtifactRejected(
                    f"the manifest's {kind} are {told}; those of the plan are {real[kind == 'inputs']}"
                )
        if engine.num_optimization_profiles != len(self._profiles):
            raise ArtifactRejected(
                f"the plan has {engine.num_optimization_profiles} profiles, not {len(self._profiles)}"
            )

    def _largest(self, spec: TensorSpec) -> Shape:
        return largest_of([shape_of(spec, profile.largest) for profile in self._profiles])

    def _measured_outputs(self) -> list[Place]:
        largest: dict[str, list[Shape]] = {spec.name: [] for spec in self._signature.outputs}
        for number, profile in enumerate(self._profiles):
            inputs = {spec.name: shape_of(spec, profile.largest) for spec in self._signature.inputs}
            for name, shape in self._shapes_of_outputs(number, inputs).items():
                largest[name].append(shape)
        return [
            Place(spec.name, spec.dtype, largest_of(largest[spec.name])) for spec in self._signature.outputs
        ]

    def _shapes_of_outputs(self, number: int, shapes: Shapes) -> dict[str, Shape]:
        context, told = self._contexts[number], self._told[number]
        for name, shape in shapes.items():
            if told.get(name) != shape:
                if not context.set_input_shape(name, shape):
                    raise EngineFailed(f"{self._library.name} takes no {name!r} of shape {list(shape)}")
                told[name] = shape
        if missing := context.infer_shapes():
            raise EngineFailed(f"{self._library.name} lacks the shapes of {', '.join(missing)}")
        found = {spec.name: tuple(context.get_tensor_shape(spec.name)) for spec in self._signature.outputs}
        for name, shape in found.items():
            if any(size < 0 for size in shape):
                raise ArtifactRejected(
                    f"the size of output {name!r} is known only when it is computed: leave the model on "
                    "onnxruntime, or let the graph pad it to a fixed size"
                )
        return found


class _Recorder:
    def __init__(self, context: Any, log: Any) -> None:
        self._context = context
        self._log = log

    def enqueue(self, stream: Stream) -> None:
        _execute(self._context, stream, self._log)


def _execute(context: Any, stream: Stream, log: Any) -> None:
    if not context.execute_async_v3(stream.handle):
        raise EngineFailed(f"TensorRT could not run this batch: {log.why()}")
