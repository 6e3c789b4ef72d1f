"""A GPU on paper, for whoever has none: memory is numpy's, and the streams' work is done in any order that
their events allow, drawn at random. What is used before it is there, or overwritten too early, is wrong.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from weakref import WeakSet

import numpy as np

from engines.gpu import DeviceFull, Event, Gpu, Graph, Memory, Pinned, Stream
from engines.slots import Place, Shapes, num_bytes
from headrace.errors import EngineFailed
from headrace.tensors import DTYPES, Array

Step = Callable[[], bool]  # whether it could be done; it is asked again otherwise


class PaperMemory:
    def __init__(self, gpu: PaperGpu, address: int, size: int) -> None:
        self.gpu = gpu
        self.address = address
        self.array = np.full(size, 0xA5, np.uint8)

    def free(self) -> None:
        self.gpu.check_thread()
        del self.gpu.memory[self.address]


class PaperPinned:
    def __init__(self, gpu: PaperGpu, size: int) -> None:
        self.gpu = gpu
        self.array = np.full(size, 0x5A, np.uint8)

    def free(self) -> None:
        self.gpu.check_thread()
        self.gpu.pinned.remove(self)


class PaperEvent:
    def __init__(self, gpu: PaperGpu) -> None:
        self.gpu = gpu
        gpu.events.add(self)
        self.recorded = 0
        self.done = 0
        self.failed = 0

    def is_done(self) -> bool:
        self.gpu.check_thread()
        for _ in range(self.gpu.random.randrange(4)):
            self.gpu.step()
        if self.done >= self.recorded and self.failed == self.recorded:
            raise EngineFailed("the GPU failed (on paper)")
        return self.done >= self.recorded

    def wait(self) -> None:
        self.gpu.check_thread()
        while self.done < self.recorded:
            assert self.gpu.step(), "everything waits for something"
        if self.failed == self.recorded:
            raise EngineFailed("the GPU failed (on paper)")


class PaperStream:
    def __init__(self, gpu: PaperGpu, handle: int) -> None:
        self.gpu = gpu
        self.handle = handle
        self.steps: deque[Step] = deque()
        self.captured: list[Step] | None = None
        self.has_failed = False

    def push(self, step: Step) -> None:
        self.gpu.check_thread()
        if self.captured is None:
            self.steps.append(step)
        else:
            self.captured.append(step)

    def upload(self, memory: Memory, host: Array) -> None:
        assert isinstance(memory, PaperMemory)
        assert self.gpu.owns(host)

        def step() -> bool:
            memory.array[: host.nbytes] = host.reshape(-1).view(np.uint8)
            return True

        self.push(step)

    def download(self, host: Array, memory: Memory) -> None:
        assert isinstance(memory, PaperMemory)
        assert self.gpu.owns(host)

        def step() -> bool:
            host.reshape(-1).view(np.uint8)[:] = memory.array[: host.nbytes]
            return True

        self.push(step)

    def record(self, event: Event) -> None:
        assert isinstance(event, PaperEvent)
        event.recorded += 1
        number = event.recorded

        def step() -> bool:
            event.done = number
            if self.has_failed:
                event.failed, self.has_failed = number, False
            return True

        self.push(step)

    def wait_for(self, event: Event) -> None:
        assert isinstance(event, PaperEvent)
        number = event.recorded

        def step() -> bool:
            if event.done < number:
                return False
            self.has_failed |= event.failed == number
            return True

        self.push(step)

    def synchronize(self) -> None:
        self.gpu.check_thread()
        while self.steps:
            assert self.gpu.step(), "everything waits for something"
        if self.has_failed:
            self.has_failed = False
            raise EngineFailed("the GPU failed (on paper)")


class PaperGraph:
    def __init__(self, gpu: PaperGpu, steps: Sequence[Step]) -> None:
        self.gpu = gpu
        self.steps = steps

    def launch(self, stream: Stream) -> None:
        assert isinstance(stream, PaperStream)
        assert self in self.gpu.graphs
        self.gpu.launched += 1
        for step in self.steps:
            stream.push(step)

    def free(self) -> None:
        self.gpu.check_thread()
        self.gpu.graphs.remove(self)


class PaperGpu:
    def __init__(self, seed: int = 0, capacity: int = 1 << 24) -> None:
        self.random = random.Random(seed)
        self.capacity = capacity
        self.memory: dict[int, PaperMemory] = {}
        self.pinned: list[PaperPinned] = []
        self.streams: list[PaperStream] = []
        self.graphs: list[PaperGraph] = []
        self.events: WeakSet[PaperEvent] = WeakSet()
        self.launched = 0
        self.captures = True
        self.is_dead = False
        self.thread: threading.Thread | None = None
        self._next = 1 << 20

    def open(self) -> None:
        self.thread = threading.current_thread()

    def close(self) -> None:
        self.check_thread()
        assert not any(stream.steps for stream in self.streams)
        self.streams.clear()
        self.thread = None

    def check_thread(self) -> None:
        assert threading.current_thread() is self.thread

    def is_empty(self) -> bool:
        held = self.memory or self.pinned or self.graphs or self.streams or self.events
        return not held and self.thread is None

    def owns(self, host: Array) -> bool:
        return any(np.shares_memory(host, pinned.array) for pinned in self.pinned)

    def is_alive(self) -> bool:
        self.check_thread()
        return not self.is_dead

    def free_bytes(self) -> int:
        return self.capacity - sum(memory.array.size for memory in self.memory.values())

    def pin(self, num_bytes: int) -> Pinned:
        self.check_thread()
        self.pinned.append(PaperPinned(self, num_bytes))
        return self.pinned[-1]

    def allocate(self, num_bytes: int) -> Memory:
        self.check_thread()
        if num_bytes > self.free_bytes():
            raise DeviceFull("the GPU has no memory left; smaller batches take less (max_batch)")
        self.memory[self._next] = found = PaperMemory(self, self._next, num_bytes)
        self._next += 1 << 20
        return found

    def stream(self) -> Stream:
        self.check_thread()
        self.streams.append(PaperStream(self, len(self.streams) + 1))
        return self.streams[-1]

    def event(self) -> Event:
        self.check_thread()
        return PaperEvent(self)

    def capture(self, stream: Stream, work: Callable[[], None]) -> Graph:
        assert isinstance(stream, PaperStream)
        if not self.captures:
            raise EngineFailed("the GPU failed (CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED)")
        stream.captured = steps = []
        try:
            work()
        finally:
            stream.captured = None
        self.graphs.append(PaperGraph(self, steps))
        return self.graphs[-1]

    def step(self) -> bool:
        """Do the next of some stream's work; False when none can go on."""
        for stream in self.random.sample(self.streams, len(self.streams)):
            if stream.steps and stream.steps[0]():
                stream.steps.popleft()
                return True
        return False


class Doubling:
    """A kernel: y is twice x, and n its number of columns."""

    def __init__(self, rows: int, columns: int) -> None:
        self.inputs = [Place("x", "FP32", (rows, columns))]
        self.outputs = [Place("y", "FP32", (rows, columns)), Place("n", "INT64", (rows,))]
        self.num_bytes = 0
        self.fails_with: Exception | None = None
        self.fails_later = False
        self.enqueued = 0
        self.is_open = False

    def open(self, gpu: Gpu) -> None:
        assert isinstance(gpu, PaperGpu)
        self._gpu = gpu
        self.is_open = True

    def close(self) -> None:
        self.is_open = False

    def place(self, shapes: Shapes) -> Shapes:
        self.shape = shapes["x"]
        return {"y": self.shape, "n": self.shape[:1]}

    def enqueue(self, addresses: Mapping[str, int], stream: Stream) -> None:
        if self.fails_with is not None:
            raise self.fails_with
        self.recorder(addresses).enqueue(stream)

    def recorder(self, addresses: Mapping[str, int]) -> Multiplying:
        return Multiplying(self, addresses)

    def work(self, addresses: Mapping[str, int], shape: tuple[int, ...], stream: PaperStream) -> None:
        self.enqueued += 1
        fails = self.fails_later
        x, y, n = (self._gpu.memory[addresses[name]].array for name in ("x", "y", "n"))

        def step() -> bool:
            stream.has_failed |= fails
            _as(y, "FP32", shape)[:] = 2 * _as(x, "FP32", shape)
            _as(n, "INT64", shape[:1])[:] = shape[1]
            return True

        stream.push(step)


class Multiplying:
    """The work of one shape and place."""

    def __init__(self, kernel: Doubling, addresses: Mapping[str, int]) -> None:
        self.kernel = kernel
        self.addresses = addresses
        self.shape = kernel.shape

    def enqueue(self, stream: Stream) -> None:
        assert isinstance(stream, PaperStream)
        self.kernel.work(self.addresses, self.shape, stream)


def _as(array: Array, dtype: str, shape: tuple[int, ...]) -> Array:
    return array[: num_bytes(dtype, shape)].view(DTYPES[dtype]).reshape(shape)
