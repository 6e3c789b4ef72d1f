"""A kernel for `GpuRunner` by torch, on the stream and in the memory that it is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from engines.gpu import Gpu, Stream
from engines.slots import Place, Shape, Shapes


class Doubling:
    """y is twice x."""

    def __init__(self, largest: Shape) -> None:
        self.inputs = [Place("x", "FP32", largest)]
        self.outputs = [Place("y", "FP32", largest)]
        self.num_bytes = 0
        self.fails_with: Exception | None = None

    def open(self, gpu: Gpu) -> None:
        torch.zeros(1, device="cuda")  # torch's own set-up, which no capture may meet

    def close(self) -> None:
        pass

    def place(self, shapes: Shapes) -> Shapes:
        self._shape = shapes["x"]
        return {"y": self._shape}

    def enqueue(self, addresses: Mapping[str, int], stream: Stream) -> None:
        if self.fails_with is not None:
            raise self.fails_with
        self.recorder(addresses).enqueue(stream)

    def recorder(self, addresses: Mapping[str, int]) -> Multiplying:
        return Multiplying(*(tensor(addresses[name], self._shape) for name in ("x", "y")))


class Multiplying:
    def __init__(self, x: torch.Tensor, y: torch.Tensor) -> None:
        self.x = x
        self.y = y

    def enqueue(self, stream: Stream) -> None:
        stream_of: Any = torch.cuda.ExternalStream  # torch has given it no types
        with torch.cuda.stream(stream_of(stream.handle)):
            torch.mul(self.x, 2, out=self.y)


def tensor(address: int, shape: Shape) -> torch.Tensor:
    """The FP32 tensor that lies there."""

    class There:
        __cuda_array_interface__: Mapping[str, Any] = {
            "data": (address, False),
            "shape": shape,
            "typestr": "<f4",
            "version": 3,
            "strides": None,
        }

    return torch.as_tensor(There(), device="cuda")
