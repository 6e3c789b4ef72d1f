"""Batches on a GPU, on paper: whatever order the streams may take, each gets its own answer."""

from __future__ import annotations

import gc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest

from engines.gpu import DeviceFull, Graph, Pinned, Stream
from engines.gpu_runner import MOST_GRAPHS, GpuRunner
from headrace.errors import EngineFailed, EngineUnavailable
from headrace.tensors import Array
from tests.engines.paper_gpu import Doubling, PaperGpu
from tests.waiting import wait_until

ROWS, COLUMNS = 8, 16
BOTH = ("y", "n")


def batches(count: int, seed: int = 0) -> list[Array]:
    rng = np.random.default_rng(seed)
    shapes = rng.integers(1, (ROWS + 1, COLUMNS + 1), (count, 2))
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def check(batch: Array, found: dict[str, Array]) -> None:
    np.testing.assert_array_equal(found["y"], 2 * batch)
    assert found["n"].tolist() == [batch.shape[1]] * batch.shape[0]


def run_all(runner: GpuRunner, given: list[Array]) -> list[dict[str, Array]]:
    """Some at a time, as a server's threads do."""
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda batch: runner.run({"x": batch}, BOTH), given))


@pytest.mark.parametrize("uses_graphs", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_every_batch_gets_its_own_answer_in_whatever_order_the_streams_go(
    seed: int, uses_graphs: bool
) -> None:
    gpu = PaperGpu(seed)
    runner = GpuRunner(gpu, Doubling(ROWS, COLUMNS), uses_graphs=uses_graphs)
    runner.start()
    given = batches(12, seed) * 8
    for batch, found in zip(given, run_all(runner, given), strict=True):
        check(batch, found)
    runner.close()
    assert gpu.is_empty()
    assert bool(gpu.launched) == uses_graphs


def test_without_the_events_answers_would_be_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """That the paper tells a mistake."""
    monkeypatch.setattr("tests.engines.paper_gpu.PaperStream.wait_for", lambda *_: None)
    wrong = 0
    for seed in range(20):
        runner = GpuRunner(PaperGpu(seed), Doubling(ROWS, COLUMNS))
        runner.start()
        for batch, found in zip(given := batches(20, seed), run_all(runner, given), strict=True):
            wrong += not np.array_equal(found["y"], 2 * batch)
        runner.close()
    assert wrong > 10


def test_it_may_be_asked_from_many_threads() -> None:
    gpu = PaperGpu(1)
    runner = GpuRunner(gpu, Doubling(ROWS, COLUMNS))
    runner.start()
    given = batches(200, 1)
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda batch: runner.run({"x": batch}, BOTH), given))
    for batch, outputs in zip(given, found, strict=True):
        check(batch, outputs)
    runner.close()
    assert gpu.is_empty()


def test_only_what_is_wanted_comes_back() -> None:
    runner = GpuRunner(PaperGpu(), Doubling(ROWS, COLUMNS))
    runner.start()
    assert list(runner.run({"x": batches(1)[0]}, ("n",))) == ["n"]
    runner.close()


def test_answers_stay_as_they_are_when_the_next_batches_run() -> None:
    runner = GpuRunner(PaperGpu(), Doubling(ROWS, COLUMNS))
    runner.start()
    first, *others = batches(6)
    found = runner.run({"x": first}, BOTH)
    run_all(runner, others)
    check(first, found)
    runner.close()


def test_a_shape_is_captured_when_it_comes_again_and_then_replayed() -> None:
    gpu, kernel = PaperGpu(), Doubling(ROWS, COLUMNS)
    runner = GpuRunner(gpu, kernel, depth=1)
    runner.start()
    batch = np.ones((2, 3), np.float32)
    for _ in range(6):
        check(batch, runner.run({"x": batch}, BOTH))
    assert kernel.enqueued == 4  # twice as it is, once more where it is captured, and then that
    assert (runner.num_graphs, gpu.launched) == (1, 4)
    runner.close()


def test_graphs_are_no_more_than_so_many() -> None:
    gpu = PaperGpu()
    runner = GpuRunner(gpu, Doubling(ROWS, COLUMNS), depth=1)
    runner.start()
    shapes = [(rows, columns) for rows in range(1, 9) for columns in range(1, 9)]
    for shape in shapes:
        for _ in range(2):
            batch = np.full(shape, 3, np.float32)
            check(batch, runner.run({"x": batch}, BOTH))
    assert runner.num_graphs == len(gpu.graphs) == MOST_GRAPHS
    before = gpu.launched
    runner.run({"x": np.ones(shapes[0], np.float32)}, BOTH)
    assert gpu.launched == before + 1
    runner.close()
    assert gpu.is_empty()


def test_shapes_that_came_once_push_no_graph_out() -> None:
    gpu = PaperGpu()
    runner = GpuRunner(gpu, Doubling(ROWS, COLUMNS), depth=1)
    runner.start()
    usual = np.ones((2, 3), np.float32)
    for _ in range(2):
        runner.run({"x": usual}, BOTH)
    for columns in range(1, COLUMNS + 1):
        for rows in (1, 3, 4):
            runner.run({"x": np.ones((rows, columns), np.float32)}, BOTH)
    before = gpu.launched
    check(usual, runner.run({"x": usual}, BOTH))
    assert (gpu.launched, runner.num_graphs) == (before + 1, 1)
    runner.close()


def test_a_moments_want_of_memory_costs_one_graph_and_not_all(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = PaperGpu()
    runner = GpuRunner(gpu, Doubling(ROWS, COLUMNS), depth=1)
    runner.start()
    monkeypatch.setattr("engines.gpu_runner._PAUSE", 20)
    capture, tried = gpu.capture, []

    def at_first_not(stream: Stream, work: Callable[[], None]) -> Graph:
        tried.append(1)
        if len(tried) == 1:
            raise DeviceFull("no memory left")
        return capture(stream, work)

    gpu.capture = at_first_not  # type: ignore[method-assign]
    batch = np.ones((2, 3), np.float32)
    for _ in range(20):
        check(batch, runner.run({"x": batch}, BOTH))
    assert (len(tried), runner.num_graphs) == (1, 0)  # not with every batch
    for _ in range(10):
        check(batch, runner.run({"x": batch}, BOTH))
    assert (len(tried), runner.num_graphs) == (2, 1)
    runner.close()


def test_where_graphs_are_many_another_shape_needs_to_come_often() -> None:
    gpu = PaperGpu()
    runner = GpuRunner(gpu, Doubling(ROWS, COLUMNS), depth=1)
    runner.start()
    shapes = [(rows, columns) for rows in range(1, 9) for columns in range(1, 9)][: MOST_GRAPHS + 1]
    for shape in shapes:
        for _ in range(2):
            runner.run({"x": np.ones(shape, np.float32)}, BOTH)
    captured = list(gpu.graphs)
    assert len(captured) == MOST_GRAPHS
    for _ in range(10):
        runner.run({"x": np.ones(shapes[-1], np.float32)}, BOTH)
    assert len(gpu.graphs) == MOST_GRAPHS
    assert gpu.graphs[-1] not in captured
    runner.close()


def test_what_cannot_be_captured_runs_without() -> None:
    gpu = PaperGpu()
    gpu.captures = False
    runner = GpuRunner(gpu, Doubling(ROWS, COLUMNS))
    runner.start()
    batch = np.ones((2, 3), np.float32)
    for _ in range(6):
        check(batch, runner.run({"x": batch}, BOTH))
    assert runner.num_graphs == 0
    runner.close()
    assert gpu.is_empty()


@pytest.mark.parametrize("error", [DeviceFull("no memory left"), EngineFailed("it broke")])
def test_a_batch_that_cannot_begin_fails_alone(error: Exception) -> None:
    gpu, kernel = PaperGpu(), Doubling(ROWS, COLUMNS)
    runner = GpuRunner(gpu, kernel)
    runner.start()
    first, second, *others = batches(12)
    check(first, runner.run({"x": first}, BOTH))
    kernel.fails_with = error
    with pytest.raises(type(error), match=str(error)):
        runner.run({"x": second}, BOTH)
    kernel.fails_with = None
    for batch, found in zip(others, run_all(runner, others), strict=True):
        check(batch, found)
    runner.close()
    assert gpu.is_empty()


def test_a_batch_that_fails_on_the_way_is_told() -> None:
    gpu, kernel = PaperGpu(), Doubling(ROWS, COLUMNS)
    runner = GpuRunner(gpu, kernel, uses_graphs=False)
    runner.start()
    kernel.fails_later = True
    with pytest.raises(EngineFailed, match="on paper"):
        runner.run({"x": batches(1)[0]}, BOTH)
    kernel.fails_later = False
    check(batches(1)[0], runner.run({"x": batches(1)[0]}, BOTH))
    runner.close()
    gc.collect()  # the failure's frames hold an event
    assert gpu.is_empty()


@pytest.mark.parametrize("is_at_once", [True, False])
def test_a_gpu_that_fails_for_good_is_told_and_tried_no_more(is_at_once: bool) -> None:
    gpu, kernel = PaperGpu(), Doubling(ROWS, COLUMNS)
    runner = GpuRunner(gpu, kernel, uses_graphs=False)
    runner.start()
    kernel.fails_with = EngineFailed("it broke") if is_at_once else None
    kernel.fails_later = not is_at_once
    with pytest.raises(EngineFailed):
        runner.run({"x": batches(1)[0]}, BOTH)
    assert not runner.is_lost  # a batch failed, the GPU did not
    gpu.is_dead = True
    with pytest.raises(EngineFailed):
        runner.run({"x": batches(1)[0]}, BOTH)
    assert runner.is_lost
    before = kernel.enqueued
    with pytest.raises(EngineUnavailable, match="of no use to this process any more"):  # try elsewhere
        runner.run({"x": batches(1)[0]}, BOTH)
    assert kernel.enqueued == before
    runner.close()


def test_a_model_that_is_too_large_is_refused_with_the_numbers() -> None:
    gpu, kernel = PaperGpu(capacity=3 << 20), Doubling(ROWS, COLUMNS)
    kernel.num_bytes = 4 << 20
    runner = GpuRunner(gpu, kernel)
    with pytest.raises(
        EngineUnavailable, match="needs 4 MiB of the GPU's memory, and 3 are free; take smaller"
    ):
        runner.start()
    assert gpu.is_empty()
    assert not kernel.is_open


def test_a_share_of_the_gpu_is_kept_to() -> None:
    kernel = Doubling(ROWS, COLUMNS)
    kernel.num_bytes = 4 << 20
    runner = GpuRunner(PaperGpu(), kernel, budget_bytes=2 << 20)
    with pytest.raises(EngineUnavailable, match="and 2 are this engine's share"):
        runner.start()


@pytest.mark.parametrize("capacity", [0, 600, 1200, 1900])
def test_memory_that_ends_while_it_begins_is_all_given_back(capacity: int) -> None:
    gpu = PaperGpu()
    kernel = Doubling(ROWS, COLUMNS)
    pin = gpu.pin

    def shrink(num_bytes: int) -> Pinned:  # another process was faster
        gpu.capacity = capacity
        return pin(num_bytes)

    gpu.pin = shrink  # type: ignore[method-assign]
    with pytest.raises(DeviceFull):
        GpuRunner(gpu, kernel).start()
    assert gpu.is_empty()
    assert not kernel.is_open


def test_closed_it_finishes_what_it_has_and_takes_no_more() -> None:
    gpu, kernel = PaperGpu(), Doubling(ROWS, COLUMNS)
    runner = GpuRunner(gpu, kernel)
    runner.start()
    given = batches(10)
    with ThreadPoolExecutor(len(given)) as pool:
        futures = [pool.submit(runner.run, {"x": batch}, BOTH) for batch in given]
        wait_until(lambda: kernel.enqueued > 0, "the first of them")
        runner.close()
        assert gpu.is_empty()
        refused = [future for future in futures if isinstance(future.exception(10), EngineUnavailable)]
        assert len(refused) < len(given)
        for batch, future in zip(given, futures, strict=True):
            if future not in refused:
                check(batch, future.result())
    with pytest.raises(EngineUnavailable, match="closed"):
        runner.run({"x": given[0]}, BOTH)


@pytest.mark.parametrize("depth", [1, 2])
def test_the_next_batch_goes_up_while_one_computes_if_two_may_be_on_the_way(depth: int) -> None:
    gpu, kernel = PaperGpu(3), Doubling(ROWS, COLUMNS)
    runner = GpuRunner(gpu, kernel, depth=depth)
    runner.start()
    order: list[str] = []
    step = gpu.step

    def noted() -> bool:
        names = ("up", "compute", "down")
        before = [len(stream.steps) for stream in gpu.streams]
        done = step()
        for name, stream, length in zip(names, gpu.streams, before, strict=True):
            if len(stream.steps) < length:
                order.append(name)
        return done

    gpu.step = noted  # type: ignore[method-assign]
    run_all(runner, batches(50))
    runner.close()
    assert (("compute", "up") in set(pairwise(order))) == (depth == 2)
