"""A real GPU by pycuda, with torch as what computes: `pytest -m gpu` where there is one."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from engines import cuda
from engines.cuda import CudaGpu
from engines.driver import find_driver
from engines.gpu import DeviceFull, Event, Gpu
from engines.gpu_runner import GpuRunner
from engines.slots import Shapes
from headrace.errors import EngineUnavailable
from headrace.tensors import Array
from tests.engines.torch_kernel import Doubling

pytestmark = pytest.mark.gpu


def why_not() -> str:
    try:
        find_driver()
        import pycuda  # noqa: F401
        import torch
    except (EngineUnavailable, ImportError) as err:
        return str(err)
    return "" if torch.cuda.is_available() else "torch is not built for CUDA"


@pytest.fixture(autouse=True, scope="module")
def _there_is_one() -> None:
    if reason := why_not():
        pytest.skip(reason)


def runner(rows: int, columns: int, **options: object) -> GpuRunner:
    found = GpuRunner(CudaGpu(), Doubling((rows, columns)), **options)  # type: ignore[arg-type]
    found.start()
    return found


def batches(count: int, rows: int, columns: int) -> list[Array]:
    rng = np.random.default_rng(0)
    shapes = rng.integers(1, (rows + 1, columns + 1), (count, 2))
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize("uses_graphs", [False, True])
def test_every_batch_gets_its_own_answer(uses_graphs: bool) -> None:
    found = runner(64, 256, uses_graphs=uses_graphs)
    given = batches(60, 8, 8) * 5
    for batch in given:
        np.testing.assert_array_equal(found.run({"x": batch}, ("y",))["y"], 2 * batch)
    assert (found.num_graphs > 0) == uses_graphs
    found.close()


def test_it_may_be_asked_from_many_threads() -> None:
    found = runner(64, 256)
    given = batches(200, 64, 256)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda batch: found.run({"x": batch}, ("y",))["y"], given))
    for batch, answer in zip(given, answers, strict=True):
        np.testing.assert_array_equal(answer, 2 * batch)
    found.close()


def test_copies_go_on_while_another_batch_computes() -> None:
    """The figure is that of `benchmarks.gpu`; here only that there is a gain at all."""

    def seconds(depth: int) -> float:
        found = runner(1024, 16384, depth=depth)
        batch = np.ones((1024, 16384), np.float32)

        def run(_: int) -> None:
            found.run({"x": batch}, ("y",))

        with ThreadPoolExecutor(depth) as pool:
            list(pool.map(run, range(4)))
            began = time.perf_counter()
            list(pool.map(run, range(20)))
            took = time.perf_counter() - began
        found.close()
        return took

    assert min(seconds(1) for _ in range(3)) > min(seconds(2) for _ in range(3))


class Timing(CudaGpu):
    """With events that keep their times; they are made slot by slot: uploaded, computed, downloaded."""

    def open(self) -> None:
        super().open()
        self.made: list[Any] = []

    def event(self) -> Event:
        found = cuda._Event(self._driver.Event(self._driver.event_flags.BLOCKING_SYNC))
        self.made.append(found)
        return found


class Looking(Doubling):
    """Asks for the times on the GPU's own thread, where the next batch's work is given."""

    gpu: Timing

    def open(self, gpu: Gpu) -> None:
        super().open(gpu)
        assert isinstance(gpu, Timing)
        self.gpu = gpu
        self.told: list[list[float]] | None = None
        self.looks = False

    def place(self, shapes: Shapes) -> Shapes:
        if self.looks:
            first = self.gpu.made[0].event
            times = [event.event.time_since(first) for event in self.gpu.made]
            self.told = [times[:3], times[3:]]
        return super().place(shapes)


def test_the_events_times_tell_that_copies_overlap() -> None:
    """One of two batches goes up while the other comes down, in one of some tries at least."""
    kernel = Looking((1024, 16384))
    found = GpuRunner(Timing(), kernel)
    found.start()
    batch = np.ones((1024, 16384), np.float32)

    def run(_: int) -> None:
        found.run({"x": batch}, ("y",))

    overlaps = []
    with ThreadPoolExecutor(2) as pool:
        for _ in range(20):
            kernel.looks = False
            list(pool.map(run, range(2)))
            kernel.looks = True
            run(0)  # when both have ended, and before it is given any work
            assert kernel.told is not None
            (up, _, down), (later_up, _, later_down) = sorted(kernel.told)
            overlaps.append(min(down, later_up) - up)  # the second goes up once the first is there
            assert down <= later_down
    found.close()
    assert max(overlaps) > 0.5  # ms, of 64 MiB each way


def test_memory_that_is_not_there_is_told_and_the_gpu_lives() -> None:
    with pytest.raises(EngineUnavailable, match="MiB of the GPU's memory"):
        runner(1 << 20, 1 << 20)
    gpu = CudaGpu()
    gpu.open()
    try:
        with pytest.raises(DeviceFull):
            gpu.allocate(1 << 50)
    finally:
        gpu.close()
    found = runner(4, 4)
    assert found.run({"x": np.ones((4, 4), np.float32)}, ("y",))["y"].sum() == 32
    found.close()


def test_a_batch_that_fails_leaves_the_others() -> None:
    kernel = Doubling((4, 4))
    found = GpuRunner(CudaGpu(), kernel)
    found.start()
    batch = np.ones((4, 4), np.float32)
    kernel.fails_with = DeviceFull("no memory left")
    with pytest.raises(DeviceFull):
        found.run({"x": batch}, ("y",))
    kernel.fails_with = None
    np.testing.assert_array_equal(found.run({"x": batch}, ("y",))["y"], 2 * batch)
    found.close()


def test_nothing_is_left_on_the_gpu() -> None:
    import torch

    torch.zeros(1, device="cuda")
    free: list[int] = []
    for _ in range(4):
        found = runner(1024, 4096)
        for batch in batches(10, 4, 4) * 3:
            found.run({"x": batch}, ("y",))
        found.close()
        free.append(torch.cuda.mem_get_info()[0])
    assert free[-1] >= free[1] - (1 << 20)
