"""`headrace bench`: load on a running server, with its figures live, saved and compared."""

from __future__ import annotations

import os
import secrets
import shlex
import sys
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from headrace.errors import CallerError, ConfigRejected, EngineFailed, EngineUnavailable, NotFound

if TYPE_CHECKING:
    from deployments.bench_drive import Plan, Seen
    from deployments.bench_inputs import Requests, Sizes
    from rollout.runs import Run

console = Console()
_PATIENCE_S = 60.0
_LONGEST_S = 86_400.0


def bench(
    url: Annotated[str, typer.Argument(help="Of the server: http://127.0.0.1:8000.")],
    model: Annotated[str, typer.Option(help="The model to ask.")],
    version: Annotated[str | None, typer.Option(help="Of the model; else the split says which.")] = None,
    clients: Annotated[
        int, typer.Option(min=1, max=4096, help="So many ask, each again as soon as it has its answer.")
    ] = 8,
    rate: Annotated[
        float | None,
        typer.Option(
            help="Instead: so many requests per second at random times (Poisson), whatever answers take; "
            "latency counts from the time at which a request was to be sent."
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, help="How long to measure.")] = 10.0,
    warm_up: Annotated[float, typer.Option(min=0, help="Seconds before that, which do not count.")] = 2.0,
    rows: Annotated[int, typer.Option(min=1, help="Of each request.")] = 1,
    size: Annotated[
        list[str] | None,
        typer.Option(help="Of a variable dimension: length=16,32,64, weighted length=16:3,64:1; repeatable."),
    ] = None,
    inputs: Annotated[
        Path | None, typer.Option(help="Real inputs in turn, a file as headrace inputs writes it.")
    ] = None,
    same: Annotated[
        int, typer.Option(min=0, help="Only so many different requests, for caches; 0: all differ.")
    ] = 0,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Of inputs, sizes and times; unless given, each run has its own."),
    ] = None,
    remote: Annotated[
        bool, typer.Option("--remote", help="The server may be on another machine. Ask its owner first.")
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Save the run to this file.")] = None,
    compare: Annotated[
        Path | None, typer.Option(help="A saved run: is this one better or worse, beyond noise?")
    ] = None,
) -> None:
    """Put load on a running server and measure what it answers, closed loop (--clients) or open (--rate).

    Exit status: 2 wrong use or no server, 4 the server fails.
    """
    from deployments.asking import get, host_and_port, is_loopback
    from deployments.bench_drive import Plan
    from deployments.bench_inputs import Requests, parse_sizes, takes
    from deployments.bench_screen import beside
    from headrace.config import check_name
    from rollout import runs

    host, port = host_and_port(url)
    if not (remote or is_loopback(host)):
        raise ConfigRejected(f"{host} is not this machine; if load on it is meant and agreed, say --remote")
    if rate is not None and not 0 < rate <= 1e6:
        raise ConfigRejected(f"--rate {rate:g} must be more than 0, up to 1,000,000 requests per second")
    try:
        names = [check_name(name) for name in (model, version) if name is not None]
    except ValueError as err:
        raise ConfigRejected(str(err)) from err
    if not all(0 <= number <= _LONGEST_S for number in (seconds, warm_up)):
        raise ConfigRejected(f"--seconds and --warm-up are seconds, up to {_LONGEST_S:,.0f}")
    _check_writable(json_file)
    before = None if compare is None else _saved(compare)
    path = "/v2/models/" + "/versions/".join(names)
    known = takes(get(url, path))
    given = _given(inputs, rows, size)
    if rows != 1 and not any("batch" in spec.shape for spec in known.inputs):
        raise ConfigRejected(f"model {model!r} takes requests of one shape alone; leave out --rows")
    sizes = {} if given else parse_sizes(size or [], known)
    drawn = secrets.randbelow(1 << 31) if seed is None else seed  # else caches would answer the second run
    asked = Requests(host, model, version, known.inputs, sizes, rows, drawn, same, given)
    plan = Plan(host, port, clients, rate or 0.0, seconds, warm_up, drawn)
    _try_once(plan, asked)

    load = _told(plan, asked, inputs)
    command = [*sys.argv[1:], *([] if seed is not None else ["--seed", str(drawn)])]
    run = runs.Run(load, _rows(asked), plan.window_s, (), command=shlex.join(["headrace", *command]))
    console.print(
        f"{model}{f'/{version}' if version else ''} at {host}:{port}: " + _sentence(load), highlight=False
    )
    run = _measured(plan, asked, run)
    if json_file is not None:
        try:
            json_file.write_bytes(runs.dump(run))
        except OSError as err:
            raise ConfigRejected(f"the run cannot be saved in {json_file.name!r}: {err.strerror}") from err
        console.print(f"saved: {json_file}", highlight=False, soft_wrap=True)
    if before is not None:
        found = runs.effects(before, run)
        console.print(beside(before, run, found))
        for line in (*_machines(before, run), *runs.words(before, run, found)):
            console.print(line, highlight=False, soft_wrap=True)


def _measured(plan: Plan, asked: Requests, run: Run) -> Run:
    from rich.live import Live

    from deployments.bench_drive import drive
    from deployments.bench_screen import live, result
    from rollout.fingerprint import fingerprint

    total_s = plan.warm_up_s + plan.seconds
    with ExitStack() as stack:
        on_told = _quietly
        if console.is_terminal:
            display = stack.enter_context(Live(console=console, transient=True, auto_refresh=False))

            def draw(elapsed_s: float, seen: Seen) -> None:
                so_far = _with(run, plan, seen)
                display.update(live(so_far, elapsed_s, plan.warm_up_s, total_s, console.width), refresh=True)

            on_told = draw
        seen = drive(plan, asked, on_told)
    run = replace(
        _with(run, plan, seen),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=fingerprint(),
        late_p99_s=seen.late.quantile(0.99) if seen.late.bins else 0.0,
    )
    console.print(result(run, console.width))
    if late := _lateness(run):
        console.print(late, highlight=False, soft_wrap=True)
    return run


def _quietly(elapsed_s: float, seen: Seen) -> None:
    """Nobody watches."""


def _with(run: Run, plan: Plan, seen: Seen) -> Run:
    from rollout.evidence import Slot

    windows = tuple(seen.windows.get(number) or Slot() for number in range(plan.num_windows))
    statuses = {str(status): count for status, count in sorted(seen.statuses.items())}
    return replace(run, windows=windows, statuses=statuses)


def _lateness(run: Run) -> str:
    """A warning where the client and not the server is what was measured."""
    p50 = run.figures()["p50"]
    if p50 is None or run.late_p99_s < max(0.005, p50):
        return ""
    return (
        f"This client itself was up to {run.late_p99_s * 1000:.0f} ms late (P99): it had too little of the "
        "CPU, and latencies are too high by that."
    )


def _try_once(plan: Plan, asked: Requests) -> None:
    """One request before the load: what is wrong with it, the server says."""
    import asyncio

    from deployments.asking import error_of
    from deployments.load import closed_loop

    try:
        (reply,) = asyncio.run(closed_loop(plan.host, plan.port, [asked.made(0)], 1)).replies
    except EngineUnavailable as err:
        raise CallerError(str(err)) from err
    if reply.status == 0:
        raise EngineFailed(f"{plan.host}:{plan.port} breaks the connection off: {error_of(reply.body)}")
    if reply.status == 404:
        raise NotFound(error_of(reply.body))
    if 400 <= reply.status < 500 and reply.status != 429:  # the load may find it less busy
        raise CallerError(f"the server answers {reply.status}: {error_of(reply.body)}")
    if reply.status >= 500:
        raise EngineFailed(f"the server answers {reply.status}: {error_of(reply.body)}")


def _given(file: Path | None, rows: int, size: list[str] | None) -> list[Any]:
    from optimize.inputs import read_inputs

    if file is None:
        return []
    if size or rows != 1:
        raise ConfigRejected("--inputs brings its own sizes and rows; leave out --size and --rows")
    found = read_inputs(file)
    if not found:
        raise ConfigRejected(f"{file.name} holds no requests")
    return found


def _saved(file: Path) -> Run:
    from rollout import runs

    try:
        data = file.read_bytes()
    except OSError as err:
        raise ConfigRejected(f"the saved run {file.name!r} cannot be read: {err.strerror}") from err
    return runs.parse(data, file.name)


def _rows(asked: Requests) -> float:
    """Of a request; of given ones, which are asked in turn, the mean."""
    if not asked.given:
        return asked.rows
    if not any("batch" in spec.shape for spec in asked.inputs):
        return 1
    firsts = [next(iter(tensors.values())) for tensors in asked.given]
    return sum(first.shape[0] if first.ndim else 1 for first in firsts) / len(firsts)


def _check_writable(file: Path | None) -> None:
    """Before the load, which would be lost."""
    if file is None:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise ConfigRejected(f"the folder of {file.name!r} cannot be made: {err.strerror}") from err
    if file.is_dir() or not os.access(file if file.exists() else file.parent, os.W_OK):
        raise ConfigRejected(f"{file.name!r} cannot be written; give --json a file in a folder of yours")


def _told(plan: Plan, asked: Requests, inputs: Path | None) -> dict[str, str]:
    """What is asked, in words, so that two runs can be seen to be alike."""
    told = {"model": asked.model, "version": asked.version or "as split"}
    if plan.rate:
        told["rate"] = f"{plan.rate:g}/s"
    else:
        told["clients"] = str(plan.clients)
    if inputs is None:
        told["rows"] = str(asked.rows)
        told |= {dim: _sizes(sizes) for dim, sizes in asked.sizes.items()}
    else:
        told["inputs"] = f"{len(asked.given)} of {inputs.name}"
    count = asked.same or len(asked.given)
    return told | {"requests": f"{count} different" if count else "all different"}


def _sizes(sizes: Sizes) -> str:
    if len(set(sizes.shares)) == 1:
        return ",".join(map(str, sizes.values))
    return ",".join(f"{value}:{share:.3g}" for value, share in zip(sizes.values, sizes.shares, strict=True))


def _sentence(load: dict[str, str]) -> str:
    return ", ".join(f"{key} {value}" for key, value in load.items() if key not in ("model", "version"))


def _machines(before: Run, after: Run) -> list[str]:
    from rollout.fingerprint import differences

    if before.machine is None or after.machine is None:
        return []
    unlike = differences(before.machine, after.machine)
    return [f"Not the same client machine: {'; '.join(unlike)}."] if unlike else []
