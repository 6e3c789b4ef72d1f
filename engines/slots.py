"""Where the tensors of a batch are while it is on a GPU: one place on each side for each, of the largest
size, so that addresses never change."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from engines.gpu import Event, Gpu, Graph, Memory, Pinned
from headrace.errors import EngineUnavailable
from headrace.tensors import DTYPES, Array

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]
_ShapeKey = tuple[tuple[str, Shape], ...]
_MOST_SEEN = 1000  # shapes
_TWICE, _OFTEN = 2, 10  # times


@dataclass(frozen=True, slots=True)
class Place:
    """A tensor: its name, its datatype in the protocol's words, and the largest shape it may have."""

    name: str
    dtype: str
    largest: Shape

    @property
    def num_bytes(self) -> int:
        return num_bytes(self.dtype, self.largest)


@dataclass(frozen=True, slots=True)
class Captured:
    """A graph, and what must not be used otherwise as long as it is."""

    graph: Graph
    held: object

    def free(self) -> None:
        self.graph.free()


class Slot:
    """The memory of one batch at a time, and the graphs captured for its addresses."""

    def __init__(self, gpu: Gpu, places: Sequence[Place], most_graphs: int) -> None:
        """DeviceFull when the GPU has too little memory; nothing is held then."""
        self._dtypes = {place.name: place.dtype for place in places}
        self._most_graphs = most_graphs
        self._graphs: OrderedDict[_ShapeKey, Captured] = OrderedDict()
        self._seen: OrderedDict[_ShapeKey, int] = OrderedDict()  # how often, of late, without a graph
        with ExitStack() as undo:
            self._pinned: dict[str, Pinned] = {}
            self._memory: dict[str, Memory] = {}
            for place in places:
                self._pinned[place.name] = pinned = gpu.pin(max(1, place.num_bytes))
                undo.callback(pinned.free)
                self._memory[place.name] = memory = gpu.allocate(max(1, place.num_bytes))
                undo.callback(memory.free)
            self._held = undo.pop_all()
        self.uploaded: Event = gpu.event()
        self.computed: Event = gpu.event()
        self.downloaded: Event = gpu.event()

    @property
    def addresses(self) -> dict[str, int]:
        return {name: memory.address for name, memory in self._memory.items()}

    def memory(self, name: str) -> Memory:
        return self._memory[name]

    def host(self, name: str, shape: Shape) -> Array:
        """The tensor's pinned memory as an array of this shape."""
        dtype = self._dtypes[name]
        return self._pinned[name].array[: num_bytes(dtype, shape)].view(DTYPES[dtype]).reshape(shape)

    def holds(self, name: str, shape: Shape) -> bool:
        return num_bytes(self._dtypes[name], shape) <= self._pinned[name].array.size

    @property
    def num_graphs(self) -> int:
        return len(self._graphs)

    def graph(self, shapes: Shapes) -> tuple[Graph | None, bool]:
        """The graph for these shapes, if there is one; else whether it is time to capture one: not at the
        first time, since shapes that come only once are not worth it, and a library's first run of a shape
        may do what no graph can hold; and later where another's has to go for it."""
        key = tuple(shapes.items())
        if key in self._graphs:
            self._graphs.move_to_end(key)
            return self._graphs[key].graph, False
        self._seen[key] = times = self._seen.get(key, 0) + 1
        self._seen.move_to_end(key)
        is_full = len(self._graphs) >= self._most_graphs
        while len(self._seen) > _MOST_SEEN:
            self._seen.popitem(last=False)
        return None, times >= (_OFTEN if is_full else _TWICE)

    def keep(self, shapes: Shapes, captured: Captured) -> None:
        """In place of the one that was not used for the longest time, when there are too many."""
        key = tuple(shapes.items())
        self._seen.pop(key, None)
        self._graphs[key] = captured
        while len(self._graphs) > self._most_graphs:
            _, old = self._graphs.popitem(last=False)
            old.free()

    def free(self) -> None:
        for captured in self._graphs.values():
            captured.free()
        self._graphs.clear()
        del self.uploaded, self.computed, self.downloaded  # the last who hold on to these
        self._held.close()


class Turns:
    """The slots that nobody uses, by turns, so that each comes to know the shapes."""

    def __init__(self) -> None:
        self._free: deque[Slot] = deque()
        self._changed = threading.Condition()
        self._users = 0
        self._is_open = True

    def put(self, slots: Sequence[Slot]) -> None:
        self._free.extend(slots)

    @contextmanager
    def slot(self) -> Iterator[Slot]:
        """One for the block, as soon as there is one. EngineUnavailable once it is closed."""
        with self._changed:
            if not self._is_open:
                raise EngineUnavailable("the engine is closed")
            self._users += 1
            self._changed.wait_for(lambda: self._free)
            slot = self._free.popleft()
        try:
            yield slot
        finally:
            with self._changed:
                self._free.append(slot)
                self._users -= 1
                self._changed.notify_all()

    def close(self) -> None:
        """Wait for all who use one or wait for one."""
        with self._changed:
            self._is_open = False
            self._changed.wait_for(lambda: not self._users)


def num_bytes(dtype: str, shape: Shape) -> int:
    return math.prod(shape) * DTYPES[dtype].itemsize
