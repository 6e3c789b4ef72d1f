"""Servers compared in one run: each one's best set-up is found first, then all are measured in turns.

In turns, since a shared machine is not equally fast from one minute to the next; what is told are medians.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import uvloop
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import ceiling
from benchmarks.figures import Figure, middle
from benchmarks.servers.base import HOST, Contender, Setup, Task, is_right
from deployments.load import Load, closed_loop
from deployments.open_loop import OpenLoad, open_loop
from headrace.errors import EngineUnavailable
from headrace.tensors import Array

CLIENTS = 64
OPEN_SHARE = 0.8  # of a server's own closed-loop throughput
SAME_SHARE = 0.8  # of the median server's throughput, for an open loop at one rate for all
OPEN_COLUMNS = ("open, P50 ms", "P99 ms")
CHECKED = 32  # answers of each server compared with the engine's


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured; the warm-up comes on top."""

    repeats: int = 3
    requests: int = 1500  # in each closed loop, and in each open one
    tuning: int = 600  # requests that a set-up is tried with
    warm: int = 128
    is_quick: bool = False  # one set-up only


QUICK = Plan(repeats=1, requests=160, tuning=100, warm=64, is_quick=True)


@dataclass(frozen=True, slots=True)
class Measured:
    """One server at its best, or one way to run the engine: a value for each turn."""

    key: str
    name: str
    setup: Setup
    rates: list[float] = field(default_factory=list)  # requests/s, closed loop
    p50s: list[float] = field(default_factory=list)  # ms
    p99s: list[float] = field(default_factory=list)
    offered: list[float] = field(default_factory=list)  # requests/s, open loop
    open_p50s: list[float] = field(default_factory=list)
    open_p99s: list[float] = field(default_factory=list)
    same_p50s: list[float] = field(default_factory=list)  # ms, at the rate that is the same for all
    same_p99s: list[float] = field(default_factory=list)
    open_failed: list[float] = field(default_factory=list)  # requests, in both open loops
    late: list[float] = field(default_factory=list)  # ms, the client's own delay, 99th percentile

    @property
    def rate(self) -> float:
        return middle(self.rates)


def compare(
    task: Task,
    contenders: Sequence[Contender],
    plan: Plan,
    progress: Progress,
    with_ceiling: bool = True,
) -> tuple[list[Measured], float]:
    """Every contender that can be had here at its best set-up, then the engine's ceilings; and the rate of
    the open loop that is the same for all."""
    expected = task.answers(CHECKED)
    found = list(_tuned(task, contenders, plan, progress))
    same_rate = SAME_SHARE * middle([rate for _, _, rate in found]) if found else 0.0
    tuned = [(contender, setup) for contender, setup, _ in found]
    results = [Measured(contender.key, contender.name, setup) for contender, setup in tuned]
    engine = [Measured("ceiling", way.name, way.setup) for way in ceiling.ways(plan.is_quick)]
    engine = engine if with_ceiling else []
    turns = progress.add_task("measuring in turns", total=plan.repeats * (len(tuned) + len(engine)))
    for _ in range(plan.repeats):
        for (contender, setup), result in zip(tuned, results, strict=True):
            progress.update(turns, description=f"{contender.name}, {setup}")
            try:
                _measure(task, contender, setup, result, plan, expected, same_rate)
            except EngineUnavailable as err:
                _leave_out(contender, setup, err)
            progress.update(turns, advance=1)
        for result in engine:
            progress.update(turns, description=f"{result.name}, {result.setup}")
            result.rates.append(
                ceiling.per_second(task, ceiling.Way(result.name, result.setup), plan.requests)
            )
            progress.update(turns, advance=1)
    names = dict.fromkeys(result.name for result in engine)
    best = [max((r for r in engine if r.name == name), key=lambda r: r.rate) for name in names]
    return [*(result for result in results if result.rates), *best], same_rate


def _tuned(
    task: Task, contenders: Sequence[Contender], plan: Plan, progress: Progress
) -> Iterable[tuple[Contender, Setup, float]]:
    """Each contender with the set-up that is fastest in a short run, and its requests/s there; those that do
    not run here are left out."""
    for contender in contenders:
        setups = contender.setups[-1:] if plan.is_quick else contender.setups
        row = progress.add_task(f"{contender.name}: set-ups", total=len(setups))
        rates: dict[Setup, float] = {}
        for setup in setups:
            load = _try(task, contender, setup, plan)
            if load is not None and load.num_failed == 0:
                rates[setup] = load.per_second
                progress.console.print(f"{contender.name}, {setup}: {load.per_second:.0f} requests/s")
            progress.update(row, advance=1)
        if rates:
            best = max(rates, key=lambda setup: rates[setup])
            yield contender, best, rates[best]


def _try(task: Task, contender: Contender, setup: Setup, plan: Plan) -> Load | None:
    try:
        with contender.serving(task, setup) as port:
            requests = contender.requests(task)
            _closed(port, requests[: plan.warm])
            return _closed(port, requests[: plan.tuning])
    except EngineUnavailable as err:
        _leave_out(contender, setup, err)
        return None


def _leave_out(contender: Contender, setup: Setup, err: EngineUnavailable) -> None:
    sys.stderr.write(f"{contender.name}, {setup}, is left out: {err}\n")


def _measure(
    task: Task,
    contender: Contender,
    setup: Setup,
    result: Measured,
    plan: Plan,
    expected: Sequence[Array],
    same_rate: float,
) -> None:
    requests = contender.requests(task)
    with contender.serving(task, setup) as port:
        warm = _closed(port, requests[: max(plan.warm, len(expected))])
        _check(contender, warm, expected)
        load = _closed(port, requests[: plan.requests])
        if load.num_failed:
            raise SystemExit(f"{contender.name}: {load.num_failed} requests failed; its rate means nothing")
        offered = _open(port, requests[: plan.requests], OPEN_SHARE * load.per_second)
        same = _open(port, requests[: plan.requests], same_rate)
    result.rates.append(load.per_second)
    result.p50s.append(load.percentile_ms(50))
    result.p99s.append(load.percentile_ms(99))
    result.offered.append(offered.per_second)
    result.open_p50s.append(offered.percentile_ms(50))
    result.open_p99s.append(offered.percentile_ms(99))
    result.same_p50s.append(same.percentile_ms(50))
    result.same_p99s.append(same.percentile_ms(99))
    result.open_failed.append(offered.num_failed + same.num_failed)
    result.late.append(offered.late_ms(99))


def _closed(port: int, requests: Sequence[bytes]) -> Load:
    load: Load = uvloop.run(closed_loop(HOST, port, requests, CLIENTS))
    return load


def _open(port: int, requests: Sequence[bytes], rate: float) -> OpenLoad:
    load: OpenLoad = uvloop.run(open_loop(HOST, port, requests, rate))
    return load


def _check(contender: Contender, load: Load, expected: Sequence[Array]) -> None:
    wrong = sum(
        not is_right(reply, answer, contender.tolerance)
        for reply, answer in zip(load.replies, expected, strict=False)
    )
    if wrong:
        raise SystemExit(f"{contender.name}: {wrong} of {len(expected)} answers are not the engine's")


def show(title: str, results: Sequence[Measured], same_rate: float) -> None:
    """The servers side by side."""
    same = (f"{same_rate:.0f}/s, P50 ms", "P99 ms")
    table = Table("", "set-up", "requests/s", "P50 ms", "P99 ms", *OPEN_COLUMNS, *same, "failed", title=title)
    for result in results:
        closed = (result.p50s, result.p99s)
        latencies = (*closed, result.open_p50s, result.open_p99s, result.same_p50s, result.same_p99s)
        told = [f"{middle(values):.1f}" if values else "" for values in latencies]
        failed = f"{sum(result.open_failed):.0f}" if result.p50s else ""
        table.add_row(result.name, str(result.setup), f"{result.rate:.0f}", *told, failed)
    table.caption = (
        f"open: an open loop at {OPEN_SHARE:.0%} of the server's own requests/s, then at {same_rate:.0f}/s, "
        f"{SAME_SHARE:.0%} of the median server's"
    )
    Console(width=150).print(table)


def figures(results: Sequence[Measured], bounds: Sequence[tuple[str, str, str]]) -> list[Figure]:
    """Everybody's rate, and a ratio for each (name above, name below, bound) of which both were measured."""
    rates = {result.name: result.rate for result in results}
    return [Figure(name, rate, "requests/s") for name, rate in rates.items()] + [
        Figure(f"{above} / {below}", rates[above] / rates[below], "ratio", bound)
        for above, below, bound in bounds
        if above in rates and below in rates
    ]
