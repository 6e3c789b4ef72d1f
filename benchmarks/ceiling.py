"""What the engine alone does with the same requests: the ceiling of every server on this machine.

Each instance is a process of its own, so that none waits for another's interpreter, and takes the next
group as soon as it is done with one, so that none waits for another's group either.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Barrier

from benchmarks.servers.base import THREADS, Setup, Task
from benchmarks.servers.programs.raw_model import RawModel, Wire
from headrace import guard
from headrace.errors import EngineFailed
from headrace.tensors import Array

WINDOW = 64  # requests that are in flight at the same time
GROUPS = (8, 16)  # rows
ARRIVAL, WINDOWS = "engine, in order of arrival", f"engine, windows of {WINDOW} sorted"
START_TIMEOUT_S = 60.0
RUN_TIMEOUT_S = 600.0

Group = list[int]  # numbers of rows


@dataclass(frozen=True, slots=True)
class Way:
    """One way to spend the engine."""

    name: str
    setup: Setup


def ways(is_quick: bool) -> list[Way]:
    spent = ((2, 1),) if is_quick else ((1, THREADS), (THREADS, 1))
    groups = GROUPS[:1] if is_quick else GROUPS
    found = []
    for instances, threads in spent:
        found.append(Way(ARRIVAL, Setup(instances, threads, 1)))
        found += [Way(WINDOWS, Setup(instances, threads, batch)) for batch in groups]
    return found


def groups_of(rows: Sequence[Array], batch: int, can_pad: bool) -> list[Group]:
    """Numbers of rows in groups: one by one, or each window's rows sorted by size, `batch` at a time.

    Rows that cannot be padded share a group with those of their own shape only.
    """
    if batch == 1:
        return [[number] for number in range(len(rows))]
    found = []
    for start in range(0, len(rows), WINDOW):
        window = sorted(range(start, min(start + WINDOW, len(rows))), key=lambda number: rows[number].size)
        for _, alike in groupby(window, lambda number: () if can_pad else rows[number].shape):
            numbers = list(alike)
            found += [numbers[first : first + batch] for first in range(0, len(numbers), batch)]
    return found


def per_second(task: Task, way: Way, count: int) -> float:
    """Rows/s of the first `count` requests, from the moment at which every instance is warm."""
    rows = [task.row(inputs) for inputs in task.requests[:count]]
    groups = groups_of(rows, way.setup.batch, can_pad=bool(task.mask))
    context = multiprocessing.get_context("spawn")
    following = context.Value("l", 0)
    barrier = context.Barrier(way.setup.workers + 1)
    wire = task.wire(way.setup)
    instances = [
        context.Process(target=_instance, args=(wire, rows, groups, following, barrier), daemon=True)
        for _ in range(way.setup.workers)
    ]
    for instance in instances:
        instance.start()
    barrier.wait(START_TIMEOUT_S)
    started = time.perf_counter()
    barrier.wait(RUN_TIMEOUT_S)
    seconds = time.perf_counter() - started
    for instance in instances:
        instance.join(START_TIMEOUT_S)
        if instance.exitcode != 0:
            raise EngineFailed(f"an instance of the engine ended with exit code {instance.exitcode}")
    return len(rows) / seconds


def _instance(
    wire: Wire,
    rows: Sequence[Array],
    groups: Sequence[Group],
    following: Synchronized[int],
    barrier: Barrier,
) -> None:
    guard.end_with_parent()
    model = RawModel(wire)
    for group in groups[:: max(1, len(groups) // 8)]:  # warm: some of every size
        model.run([rows[number] for number in group])
    barrier.wait(START_TIMEOUT_S)
    while True:
        with following.get_lock():
            number = following.value
            following.value += 1
        if number >= len(groups):
            break
        model.run([rows[row] for row in groups[number]])
    barrier.wait(RUN_TIMEOUT_S)
