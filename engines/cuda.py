"""A GPU by pycuda, and CUDA graphs by NVIDIA's cuda-bindings, which pycuda has none of."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from engines.gpu import DeviceFull, Event, Graph, Memory, Pinned, Stream
from headrace.errors import EngineFailed, EngineUnavailable
from headrace.tensors import Array

INSTALL = "pip install 'headrace[gpu]'"
_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: a stream that does not wait for the default one
_RESERVED = 64 << 20  # bytes that stay free, for what libraries take as they go


class CudaGpu:
    """One GPU. Its primary context is the one that torch and TensorRT use, too."""

    def __init__(self, ordinal: int = 0) -> None:
        self._ordinal = ordinal
        self._context: Any = None

    def open(self) -> None:
        self._driver, self._graphs = _import()
        with _told():
            self._driver.init()
            self._context = self._driver.Device(self._ordinal).retain_primary_context()
            self._context.push()

    def close(self) -> None:
        """What was made of it must be freed before. No context may stay on a stack: Python would abort."""
        if self._context is not None:
            self._context.pop()
            self._context.detach()
            self._graphs.cuCtxPopCurrent()  # pycuda makes a primary context current again to release it
            self._context = None

    def is_alive(self) -> bool:
        try:
            with _told():
                self._context.synchronize()
        except EngineFailed:
            return False
        return True

    def free_bytes(self) -> int:
        with _told():
            free, _ = self._driver.mem_get_info()
        return max(0, int(free) - _RESERVED)

    def pin(self, num_bytes: int) -> Pinned:
        try:
            with _told():
                return _Pinned(self._driver.pagelocked_empty(num_bytes, np.uint8))
        except DeviceFull as err:
            raise DeviceFull(
                f"the host cannot pin {num_bytes >> 20} MiB of memory for copies; smaller batches take less "
                "(max_batch)"
            ) from err

    def allocate(self, num_bytes: int) -> Memory:
        with _told():
            return _Memory(self._driver.mem_alloc(num_bytes))

    def stream(self) -> Stream:
        with _told():
            return _Stream(self._driver, self._driver.Stream(_NON_BLOCKING))

    def event(self) -> Event:
        flags = self._driver.event_flags
        with _told():
            return _Event(self._driver.Event(flags.BLOCKING_SYNC | flags.DISABLE_TIMING))

    def capture(self, stream: Stream, work: Callable[[], None]) -> Graph:
        # Of this thread alone: what other threads do meanwhile neither enters the graph nor spoils it.
        mode = self._graphs.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        handle = self._graphs.CUstream(stream.handle)
        _checked(self._graphs, self._graphs.cuStreamBeginCapture(handle, mode))
        try:
            work()
        except BaseException:
            self._graphs.cuStreamEndCapture(handle)
            raise
        graph = _checked(self._graphs, self._graphs.cuStreamEndCapture(handle))
        try:
            return _Graph(self._graphs, _checked(self._graphs, self._graphs.cuGraphInstantiate(graph, 0)))
        finally:
            self._graphs.cuGraphDestroy(graph)


class _Pinned:
    def __init__(self, array: Array) -> None:
        self.array = array

    def free(self) -> None:
        allocation: Any = self.array.base
        allocation.free()


class _Memory:
    def __init__(self, allocation: Any) -> None:
        self.allocation = allocation

    @property
    def address(self) -> int:
        return int(self.allocation)

    def free(self) -> None:
        self.allocation.free()


class _Event:
    def __init__(self, event: Any) -> None:
        self.event = event

    def is_done(self) -> bool:
        with _told():
            return bool(self.event.query())

    def wait(self) -> None:
        with _told():
            self.event.synchronize()


class _Stream:
    def __init__(self, driver: Any, stream: Any) -> None:
        self._driver = driver
        self._stream = stream

    @property
    def handle(self) -> int:
        return int(self._stream.handle)

    def upload(self, memory: Memory, host: Array) -> None:
        with _told():
            self._driver.memcpy_htod_async(memory.address, host, self._stream)

    def download(self, host: Array, memory: Memory) -> None:
        with _told():
            self._driver.memcpy_dtoh_async(host, memory.address, self._stream)

    def record(self, event: Event) -> None:
        assert isinstance(event, _Event)
        with _told():
            event.event.record(self._stream)

    def wait_for(self, event: Event) -> None:
        assert isinstance(event, _Event)
        with _told():
            self._stream.wait_for_event(event.event)

    def synchronize(self) -> None:
        with _told():
            self._stream.synchronize()


class _Graph:
    def __init__(self, graphs: Any, executable: Any) -> None:
        self._graphs = graphs
        self._executable = executable

    def launch(self, stream: Stream) -> None:
        handle = self._graphs.CUstream(stream.handle)
        _checked(self._graphs, self._graphs.cuGraphLaunch(self._executable, handle))

    def free(self) -> None:
        """One under way ends first."""
        self._graphs.cuGraphExecDestroy(self._executable)


def _import() -> tuple[Any, Any]:
    """pycuda's driver and cuda-bindings'."""
    try:
        import pycuda.driver
        from cuda.bindings import driver
    except ImportError as err:  # pycuda's is one, too, where there is no libcuda
        raise EngineUnavailable(f"CUDA is unavailable: {err}; install: {INSTALL}") from err
    return pycuda.driver, driver


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """pycuda's errors as ours."""
    import pycuda.driver

    try:
        yield
    except pycuda.driver.MemoryError as err:
        raise DeviceFull("the GPU has no memory left; smaller batches take less (max_batch)") from err
    except pycuda.driver.Error as err:
        raise EngineFailed(f"the GPU failed ({type(err).__name__})") from err


def _checked(graphs: Any, told: tuple[Any, ...]) -> Any:
    """What a call of cuda-bindings gives, after its status."""
    status, *given = told
    if status == graphs.CUresult.CUDA_ERROR_OUT_OF_MEMORY:
        raise DeviceFull("the GPU has no memory left for a CUDA graph")
    if status != graphs.CUresult.CUDA_SUCCESS:
        raise EngineFailed(f"the GPU failed ({status.name})")
    return given[0] if given else None
