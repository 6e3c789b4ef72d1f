"""Batches on a GPU: while one computes, the next is uploaded and the answers of the one before come back."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Protocol

import numpy as np

from engines.gpu import DeviceFull, Gpu, Stream
from engines.inflight import InFlight
from engines.slots import Captured, Place, Shapes, Slot, Turns
from headrace.errors import EngineFailed, EngineUnavailable
from headrace.tensors import Array, TensorMap

_log = logging.getLogger(__name__)

DEPTH = 2  # batches on the GPU at a time
MOST_GRAPHS = 32  # of each of these
_PAUSE = 1000  # batches
_MIB = 1 << 20


class Recorder(Protocol):
    """Gives the same work to a stream each time. What it needs for that nobody else changes, and it is kept
    as long as the graph."""

    def enqueue(self, stream: Stream) -> None: ...


class Kernel(Protocol):
    """What computes a batch that lies in the GPU's memory. It is called on the GPU's thread only."""

    @property
    def num_bytes(self) -> int:
        """Of the GPU's memory that `open` will take at least; once it is open, that it has taken."""
        ...

    def open(self, gpu: Gpu) -> None: ...

    @property
    def inputs(self) -> Sequence[Place]:
        """Once it is open."""
        ...

    @property
    def outputs(self) -> Sequence[Place]:
        """Likewise."""
        ...

    def place(self, shapes: Shapes) -> Shapes:
        """The shapes of the outputs for inputs of these shapes, which the next `enqueue` will have.
        TensorRejected when it cannot take them."""
        ...

    def enqueue(self, addresses: Mapping[str, int], stream: Stream) -> None:
        """Give the work to the stream and return at once."""
        ...

    def recorder(self, addresses: Mapping[str, int]) -> Recorder:
        """To capture the work that `place` was last told of, with memory at these addresses."""
        ...

    def close(self) -> None: ...


class GpuRunner:
    """Runs a kernel's batches from any thread. Use `start` and `close` once each."""

    def __init__(
        self,
        gpu: Gpu,
        kernel: Kernel,
        *,
        depth: int = DEPTH,
        budget_bytes: int | None = None,
        uses_graphs: bool = True,
    ) -> None:
        """`budget_bytes` is what it may take of the GPU's memory: None, what is free."""
        self._gpu = gpu
        self._kernel = kernel
        self._depth = depth
        self._budget_bytes = budget_bytes
        self._uses_graphs = uses_graphs
        self._lanes: _Lanes | None = None
        self._turns = Turns()
        self._flight: InFlight[Shapes] = InFlight(depth, self._begin, self._end)

    def start(self) -> None:
        """EngineUnavailable when there is no GPU, or too little memory of it."""
        self._flight.start()

    def run(self, inputs: TensorMap, outputs: Sequence[str]) -> dict[str, Array]:
        """The named outputs of a batch.

        The calling thread itself copies to and from pinned memory: the GPU's has other batches to start.
        """
        assert self._lanes is not None
        with self._turns.slot() as slot:
            arrays = {place.name: inputs[place.name] for place in self._kernel.inputs}
            shapes = {name: array.shape for name, array in arrays.items()}
            if all(slot.holds(name, shape) for name, shape in shapes.items()):  # else the kernel refuses it
                for name, array in arrays.items():
                    np.copyto(slot.host(name, array.shape), array)
            found = self._flight.submit(_Batch(self._lanes, slot, shapes, tuple(outputs))).result()
            return {name: slot.host(name, shape).copy() for name, shape in found.items()}

    def close(self) -> None:
        """Finish what was asked for, and give back all memory."""
        self._turns.close()
        self._flight.close()

    @property
    def is_lost(self) -> bool:
        """Whether a failure has left the GPU of no use to this process."""
        return self._lanes is not None and self._lanes.is_lost

    @property
    def num_graphs(self) -> int:
        return 0 if self._lanes is None else self._lanes.num_graphs

    def _begin(self) -> None:
        self._lanes = _Lanes(self._gpu, self._kernel, self._depth, self._budget_bytes, self._uses_graphs)
        self._turns.put(self._lanes.slots)

    def _end(self) -> None:
        if self._lanes is not None:
            self._lanes.close()


class _Lanes:
    """The streams and the slots. All of it is called on the GPU's thread."""

    def __init__(
        self, gpu: Gpu, kernel: Kernel, depth: int, budget_bytes: int | None, uses_graphs: bool
    ) -> None:
        self._gpu = gpu
        self._kernel = kernel
        self._uses_graphs = uses_graphs
        self.is_lost = False
        self._pause = 0  # batches until a graph is captured again
        with ExitStack() as undo:
            gpu.open()
            undo.callback(gpu.close)
            _check_room(kernel.num_bytes, gpu.free_bytes(), budget_bytes)
            undo.callback(kernel.close)
            kernel.open(gpu)
            places = [*kernel.inputs, *kernel.outputs]
            # What others of this GPU take meanwhile is none of this engine's share.
            batches = depth * sum(place.num_bytes for place in places)
            _check_room(batches, gpu.free_bytes(), None)
            _check_room(kernel.num_bytes + batches, None, budget_bytes)
            self._upload, self._compute, self._download = (gpu.stream() for _ in range(3))
            undo.callback(self._forget_streams)
            self.slots: list[Slot] = []
            for _ in range(depth):
                self.slots.append(Slot(gpu, places, MOST_GRAPHS))
                undo.callback(self.slots[-1].free)
            undo.callback(self._settle)
            self._held = undo.pop_all()

    @property
    def num_graphs(self) -> int:
        return sum(slot.num_graphs for slot in self.slots)

    def begin(self, slot: Slot, shapes: Shapes, wanted: Sequence[str]) -> Shapes:
        """Put the whole way of a batch on the streams: up, through the kernel, and down again. The shapes
        of what is wanted."""
        if self.is_lost:
            raise EngineUnavailable("the GPU failed, and is of no use to this process any more")
        found = self._kernel.place(shapes)
        try:
            for name, shape in shapes.items():
                self._upload.upload(slot.memory(name), slot.host(name, shape))
            self._upload.record(slot.uploaded)
            self._compute.wait_for(slot.uploaded)
            self._run(slot, shapes)
            self._compute.record(slot.computed)
            self._download.wait_for(slot.computed)
            for name in wanted:
                self._download.download(slot.host(name, found[name]), slot.memory(name))
            self._download.record(slot.downloaded)
        except BaseException:
            self._settle()  # some of it may be under way in this slot's memory
            self._look()
            raise
        return {name: found[name] for name in wanted}

    def end(self, slot: Slot) -> None:
        try:
            slot.downloaded.wait()
        except EngineFailed:
            self._look()
            raise

    def close(self) -> None:
        self._held.close()

    def _run(self, slot: Slot, shapes: Shapes) -> None:
        graph, is_due = slot.graph(shapes) if self._uses_graphs else (None, False)
        if graph is not None:
            graph.launch(self._compute)
            return
        self._kernel.enqueue(slot.addresses, self._compute)
        if self._pause:
            self._pause -= 1
        elif is_due:
            self._capture(slot, shapes)

    def _capture(self, slot: Slot, shapes: Shapes) -> None:
        """For the next time; right after a run of the same shape, in which TensorRT does what no graph can
        hold. What cannot be captured costs speed, and no answer."""
        try:
            recorder = self._kernel.recorder(slot.addresses)
            recorder.enqueue(self._compute)  # once as it is: a library's first run may do more
            graph = self._gpu.capture(self._compute, lambda: recorder.enqueue(self._compute))
        except DeviceFull:
            _log.warning(
                "the GPU has no memory for another CUDA graph; the next is tried %d batches on", _PAUSE
            )
            self._pause = _PAUSE
        except EngineFailed:
            _log.warning("this model's batches cannot be captured as CUDA graphs", exc_info=True)
            self._uses_graphs = False
        else:
            slot.keep(shapes, Captured(graph, recorder))

    def _look(self) -> None:
        """After a failure."""
        if not self._gpu.is_alive():
            _log.error("the GPU does not answer any more")
            self.is_lost = True

    def _settle(self) -> None:
        """Wait for whatever is under way; who waits for it is told of its failure, if it fails."""
        for stream in (self._upload, self._compute, self._download):
            with suppress(EngineFailed):
                stream.synchronize()

    def _forget_streams(self) -> None:
        del self._upload, self._compute, self._download


class _Batch:
    """One batch's way."""

    def __init__(self, lanes: _Lanes, slot: Slot, shapes: Shapes, wanted: Sequence[str]) -> None:
        self._lanes = lanes
        self._slot = slot
        self._shapes = shapes
        self._wanted = wanted

    def start(self) -> None:
        self._found = self._lanes.begin(self._slot, self._shapes, self._wanted)

    def is_done(self) -> bool:
        return self._slot.downloaded.is_done()

    def finish(self) -> Shapes:
        self._lanes.end(self._slot)
        return self._found


def _check_room(needed: int, free: int | None, share: int | None) -> None:
    """EngineUnavailable with the numbers when the GPU lacks what the engine is known to take."""
    for there, whose in ((share, "this engine's share"), (free, "free")):
        if there is not None and needed > there:
            raise EngineUnavailable(
                f"the model needs {needed / _MIB:.0f} MiB of the GPU's memory, and {there / _MIB:.0f} are "
                f"{whose}; take smaller batches (max_batch) or buckets, fewer models on this GPU (num_gpus), "
                "or a larger one"
            )
