"""torch on a GPU whose memory and streams pycuda made, and its own CUDA graphs, which hold what torch
allocates in them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from engines.aot_package import load_package, torch_dtype
from engines.artifact import Artifact
from engines.cuda import CudaGpu
from engines.gpu import DeviceFull, Graph, Stream
from engines.slots import Shape
from headrace.errors import EngineFailed
from headrace.tensors import TensorSpec

_NO_ROOM = "the GPU has no memory left; smaller batches take less (max_batch)"

if TYPE_CHECKING:
    import torch

    from engines.aot_kernel import Model


class TorchCuda:
    """A `TorchDevice`: the GPU in whose primary context the calling thread is."""

    def __init__(self, limit_bytes: int | None = None) -> None:
        """`limit_bytes` is what torch may take for computing, beside weights and batches; None: no limit."""
        self._limit_bytes = limit_bytes

    def open(self) -> None:
        import torch

        with told():
            torch.zeros(1, device="cuda")
            if self._limit_bytes is not None:
                _, total = torch.cuda.mem_get_info()
                torch.cuda.set_per_process_memory_fraction(min(1.0, self._limit_bytes / total))

    def load(self, artifact: Artifact) -> Model:
        found: Model = load_package(artifact, is_single_threaded=True)  # locks of its own break graphs
        return found

    def tensor(self, spec: TensorSpec, address: int, shape: Shape) -> torch.Tensor:
        import torch

        dtype = torch_dtype(spec)
        size = max(1, dtype.itemsize)
        there = _There(address, tuple(shape), size)
        with told():
            return torch.as_tensor(there, device="cuda").view(dtype)

    def run(self, stream: Stream, work: Callable[[], None]) -> None:
        with told(), on(stream):
            work()

    def close(self) -> None:
        import gc

        import torch

        gc.collect()  # compiled code holds its weights until it is gone itself
        torch.cuda.empty_cache()


class TorchGpu(CudaGpu):
    """Captures by torch, whose allocator must know of it: what a graph uses stays the graph's."""

    def __init__(self, ordinal: int = 0) -> None:
        super().__init__(ordinal)
        self._pool: Any = None

    def capture(self, stream: Stream, work: Callable[[], None]) -> Graph:
        import torch

        with told(), on(stream):
            if self._pool is None:  # one for all graphs: they run one after the other
                self._pool = torch.cuda.graph_pool_handle()
            graph = torch.cuda.CUDAGraph()
            graph.capture_begin(self._pool, capture_error_mode="thread_local")
            try:
                work()
                graph.capture_end()
            except BaseException:
                self._end_capture(graph)
                raise
        return _Graph(graph)

    def _end_capture(self, graph: torch.cuda.CUDAGraph) -> None:
        """Of one that failed, so that torch's allocator goes on as before."""
        import torch

        with contextlib.suppress(RuntimeError):
            graph.capture_end()
        with contextlib.suppress(RuntimeError, AttributeError):
            end: Any = torch._C._cuda_endAllocateToPool  # capture_end leaves it open when it fails
            end(torch.cuda.current_device(), self._pool)

    def close(self) -> None:
        self._pool = None
        super().close()


class _Graph:
    def __init__(self, graph: torch.cuda.CUDAGraph) -> None:
        self._graph = graph

    def launch(self, stream: Stream) -> None:
        with told(), on(stream):
            self._graph.replay()

    def free(self) -> None:
        self._graph.reset()


class _There:
    """Bits at an address, as torch takes them: it has no BF16 by this way, so the type is given by `view`."""

    def __init__(self, address: int, shape: Shape, item_bytes: int) -> None:
        self.__cuda_array_interface__: Mapping[str, Any] = {
            "data": (address, False),
            "shape": shape,
            "typestr": f"{'|' if item_bytes == 1 else '<'}i{item_bytes}",
            "version": 3,
            "strides": None,
        }


def on(stream: Stream) -> contextlib.AbstractContextManager[Any]:
    """torch's work on this stream."""
    import torch

    external: Any = torch.cuda.ExternalStream  # torch has given it no types
    found: contextlib.AbstractContextManager[Any] = torch.cuda.stream(external(stream.handle))
    return found


@contextlib.contextmanager
def told() -> Iterator[None]:
    """torch's errors as ours. Compiled code says only that it failed, so torch is asked whether memory was
    what it lacked."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as err:
        _FULL.look()
        raise DeviceFull(_NO_ROOM) from err
    except RuntimeError as err:
        if _FULL.look():
            raise DeviceFull(_NO_ROOM) from err
        raise EngineFailed(f"the GPU failed ({type(err).__name__})") from err


class _Full:
    """How often torch has found no memory; asked after failures only, since it takes a while."""

    def __init__(self) -> None:
        self._known = 0

    def look(self) -> bool:
        """Whether it has been since the last look."""
        import torch

        stats: Mapping[str, int] = torch.cuda.memory_stats()  # empty before torch has used the GPU
        before, self._known = self._known, stats.get("num_ooms", 0)
        return self._known > before


_FULL = _Full()
