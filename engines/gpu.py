"""What running a batch on a GPU takes: memory on both sides, streams, events, graphs.

`engines.cuda` is the real one. All of it is made, used and freed on one thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from headrace.errors import EngineUnavailable
from headrace.tensors import Array


class DeviceFull(EngineUnavailable):
    """The GPU has no memory left for this; it may have for less, and later."""


class Pinned(Protocol):
    """Memory of the host that the GPU copies to and from by itself."""

    @property
    def array(self) -> Array:
        """UINT8, one dimension."""
        ...

    def free(self) -> None: ...


class Memory(Protocol):
    """Memory of the GPU, aligned to 256 bytes."""

    @property
    def address(self) -> int: ...

    def free(self) -> None: ...


class Event(Protocol):
    """A point in a stream's work, once it was recorded there."""

    def is_done(self) -> bool: ...

    def wait(self) -> None:
        """Until it is done, asleep. EngineFailed when the work before it failed."""
        ...


class Stream(Protocol):
    """Work in its order, beside that of other streams."""

    @property
    def handle(self) -> int:
        """CUDA's, for libraries that are given one."""
        ...

    def upload(self, memory: Memory, host: Array) -> None: ...

    def download(self, host: Array, memory: Memory) -> None: ...

    def record(self, event: Event) -> None: ...

    def wait_for(self, event: Event) -> None:
        """What comes after this in the stream begins when the event is done."""
        ...

    def synchronize(self) -> None:
        """Until all of its work is done. EngineFailed when some failed."""
        ...


class Graph(Protocol):
    """Captured work, for a stream to do as a whole."""

    def launch(self, stream: Stream) -> None: ...

    def free(self) -> None: ...


class Gpu(Protocol):
    """DeviceFull is raised by whatever needs memory of the GPU."""

    def open(self) -> None:
        """Take the calling thread for it. EngineUnavailable when there is no GPU."""
        ...

    def close(self) -> None: ...

    def is_alive(self) -> bool:
        """Whether it still computes: after some failures of a kernel nothing works in this process any more.
        It waits for all work."""
        ...

    def free_bytes(self) -> int: ...

    def pin(self, num_bytes: int) -> Pinned: ...

    def allocate(self, num_bytes: int) -> Memory: ...

    def stream(self) -> Stream: ...

    def event(self) -> Event: ...

    def capture(self, stream: Stream, work: Callable[[], None]) -> Graph:
        """What `work` gives to the stream, which does none of it now."""
        ...
