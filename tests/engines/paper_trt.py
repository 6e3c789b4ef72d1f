"""TensorRT's runtime on paper: as much of it as `engines.trt_kernel` calls, over a GPU on paper. Its "plan"
is a few words of JSON, and y is x plus one."""

from __future__ import annotations

import enum
import json
from types import SimpleNamespace
from typing import Any

import numpy as np

from engines.slots import num_bytes
from engines.trt_library import Library
from headrace.tensors import DTYPES
from tests.engines.paper_gpu import PaperGpu


class Mode(enum.Enum):
    INPUT = 1
    OUTPUT = 2


class DataType(enum.Enum):
    FLOAT = 0
    HALF = 1


class Severity(enum.Enum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2


class ILogger:
    Severity = Severity


class Context:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.profile: int | None = None
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.calls: list[str] = []
        self.version = 0  # of its shapes and addresses: a graph captured of another one is wrong

    def set_optimization_profile_async(self, number: int, stream: int) -> bool:
        assert stream
        self.profile = number
        return True

    def set_device_memory(self, address: int, size: int) -> None:
        assert self.engine.gpu.memory[address].array.size >= size

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.calls.append("shape")
        self.version += 1
        self.shapes[name] = shape
        return self.engine.takes(self.profile, shape)

    def infer_shapes(self) -> list[str]:
        return [name for name in ("x",) if name not in self.shapes]

    def get_tensor_shape(self, name: str) -> list[int]:
        return [-1 if self.engine.told.get("dynamic") else size for size in self.shapes["x"]]

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.calls.append("address")
        self.version += 1
        self.addresses[name] = address
        return True

    def execute_async_v3(self, handle: int) -> bool:
        if self.engine.told.get("fails"):
            self.engine.log.log(Severity.ERROR, "no kernel for this")
            return False
        gpu, shape = self.engine.gpu, self.shapes["x"]
        version, stream = self.version, gpu.streams[handle - 1]
        is_captured = stream.captured is not None
        x, y = (gpu.memory[self.addresses[name]].array[: num_bytes("FP32", shape)] for name in ("x", "y"))

        def step() -> bool:
            assert not is_captured or version == self.version
            y.view(DTYPES["FP32"])[:] = x.view(DTYPES["FP32"]) + np.float32(1)
            return True

        stream.push(step)
        return True


class Engine:
    num_io_tensors = 2

    def __init__(self, gpu: PaperGpu, told: dict[str, Any], log: Any) -> None:
        self.gpu = gpu
        self.told = told
        self.log = log
        self.contexts: list[Context] = []
        self.num_optimization_profiles = len(told["profiles"])

    def takes(self, profile: int | None, shape: tuple[int, ...]) -> bool:
        assert profile is not None
        low, high = self.told["profiles"][profile]
        return all(a <= size <= b for a, size, b in zip(low, shape, high, strict=True))

    def get_tensor_name(self, number: int) -> str:
        return "xy"[number]

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType[self.told.get("dtype", "FLOAT")]

    def get_tensor_mode(self, name: str) -> Mode:
        return Mode.INPUT if name == "x" else Mode.OUTPUT

    def get_device_memory_size_for_profile_v2(self, number: int) -> int:
        return 1000 * (number + 1)

    def create_engine_inspector(self) -> Inspector:
        return Inspector(self)

    def create_execution_context(self, strategy: str) -> Context | None:
        assert strategy == "user"
        if len(self.contexts) >= self.told.get("most_contexts", 1000):
            self.log.log(Severity.ERROR, "no room for a context")
            return None
        self.contexts.append(Context(self))
        return self.contexts[-1]


class Inspector:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def get_engine_information(self, form: str) -> str:
        assert form == "json"
        tensor = {"Name": "x", "DataType": "Float"}
        return json.dumps({"Layers": [{"LayerType": "kgen", "Inputs": [tensor]}] * len(self.engine.contexts)})


def library(gpu: PaperGpu) -> Library:
    """In place of the module; the engines that it made are in its `engines`."""
    engines: list[Engine] = []

    class Runtime:
        def __init__(self, log: Any) -> None:
            self.log = log

        def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
            told = json.loads(plan)
            if told.get("release") != 1:
                self.log.log(Severity.ERROR, told.get("why", "built by another release"))
                return None
            engines.append(Engine(gpu, told, self.log))
            return engines[-1]

    module: Any = SimpleNamespace(
        ILogger=ILogger,
        Runtime=Runtime,
        TensorIOMode=Mode,
        ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED="user"),
        LayerInformationFormat=SimpleNamespace(JSON="json"),
        engines=engines,
        __version__="1.0",
    )
    return Library("tensorrt", module)


def plan(profiles: list[tuple[list[int], list[int]]], **told: Any) -> bytes:
    return json.dumps({"release": 1, "profiles": profiles} | told).encode()
