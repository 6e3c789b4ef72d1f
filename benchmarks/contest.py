"""One comparison as a program: its options, the servers that take part, its tables and figures."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.progress import Progress

from benchmarks import ceiling, compare
from benchmarks.compare import Plan
from benchmarks.figures import arguments, finish
from benchmarks.servers import bentoml, litserve, plain_serve, triton
from benchmarks.servers.base import Contender, Task
from deployments.terminal import bars

OTHERS = ("plain", "flags", "litserve", "bentoml", "triton")


# Told for comparison: nothing is asked of these ratios.
COMPARED = tuple(
    ("Headrace", other, "")
    for other in (
        "plain Ray Serve",
        "Ray Serve, our flags",
        "LitServe",
        "BentoML",
        "Triton, Python backend",
        ceiling.WINDOWS,
    )
)


@dataclass(frozen=True, slots=True)
class Contest:
    title: str
    ours: Sequence[str]  # keys of Headrace's own rows
    # The task and Headrace's own contenders, made in a folder; the number is how many requests are wanted.
    prepare: Callable[[Path, Progress, int], tuple[Task, list[Contender]]]
    plan: Plan
    quick: Plan
    bounds: Sequence[tuple[str, str, str]] = ()  # of which names' ratio, and what the issue asks of it


def run(contest: Contest, description: str | None) -> int:
    """Measure and tell; 1 when a bound does not hold."""
    parts = (*OTHERS, *contest.ours, "ceiling")
    options = arguments(description, parts=parts)
    wanted = options.only or parts
    plan = contest.quick if options.quick else contest.plan
    with ExitStack() as stack:
        work = Path(options.work or stack.enter_context(tempfile.TemporaryDirectory())).resolve()
        progress = stack.enter_context(bars())
        task, ours = contest.prepare(work, progress, plan.requests)
        found = [contender for contender in (*others(), *ours) if contender.key in wanted]
        results, same_rate = compare.compare(task, found, plan, progress, with_ceiling="ceiling" in wanted)
    compare.show(contest.title, results, same_rate)
    details = {
        "plan": asdict(plan),
        "same_rate": same_rate,
        "servers": [{**asdict(result), "setup": str(result.setup)} for result in results],
    }
    return finish(compare.figures(results, contest.bounds), options.json, details)


def others() -> list[Contender]:
    """The servers that people would take instead."""
    return [*plain_serve.contenders(), litserve.contender(), bentoml.contender(), triton.contender()]
