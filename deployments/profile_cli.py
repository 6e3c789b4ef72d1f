"""`headrace profile`: where the time of a version goes."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headrace.errors import ToolFailed

if TYPE_CHECKING:
    from profiling.folder import Subject
    from profiling.outcome import Found, Taken
    from profiling.outcome import Table as Sums

console = Console()


def profile(
    model: Annotated[str, typer.Argument(help="The model's name.")],
    tool: Annotated[
        str, typer.Option("--with", help="ort, torch, tensorboard, py-spy, nsight or vtune.")
    ] = "ort",
    seconds: Annotated[float, typer.Option(help="For how long, 1 to 600.")] = 10.0,
    version: Annotated[str | None, typer.Option(help="Unless given, the one that answers.")] = None,
    address: Annotated[str, typer.Option(help="The Ray cluster.", envvar="RAY_ADDRESS")] = "auto",
    repository: Annotated[
        Path | None, typer.Option(help="Profile the version alone, here, with made-up inputs.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Of the engine, when it is profiled alone.")] = 1,
    out: Annotated[
        Path | None, typer.Option(help="The folder for what is found; else out/profile/...")
    ] = None,
) -> None:
    """Profile a served version under its real traffic, in one of the processes that run it, or one alone.

    Nothing is restarted and no request fails; what was switched on is off again at the end. Exit status: 2
    wrong use, 4 a profiler is missing, may not look, or failed.
    """
    from profiling import tensorboard
    from profiling.folder import Subject, default_folder, write
    from profiling.tools import check

    check(tool, seconds)
    if tool == "tensorboard":
        tensorboard.check()
    if repository is None:
        taken, number = _live(model, version, tool, seconds, address)
    else:
        number = version or _newest(repository, model)
        if tool == "nsight" and _under_nsys(model, number, seconds, repository, threads, out):
            return
        taken = _alone(repository, model, number, tool, seconds, threads)
    now = datetime.now(UTC)
    subject = Subject(model, number, tool)
    folder = out or default_folder(subject, now)
    _tell(subject, taken, write(folder, subject, taken, now), folder)


def _live(model: str, version: str | None, tool: str, seconds: float, address: str) -> tuple[Taken, str]:
    """What the gateways' handle gives, and of which version."""
    from deployments.cluster import answers_only
    from deployments.profiled import PATIENCE_S
    from deployments.status import served
    from profiling.outcome import Taken

    with answers_only():
        gateway = served(address)
        with console.status(f"profiling {model} with {tool} for {seconds:g} s"):
            response = gateway.profile.remote(model, version, tool, seconds)
            try:
                told: dict[str, Any] = response.result(timeout_s=seconds + PATIENCE_S)
            except TimeoutError as err:
                raise ToolFailed(f"the profile did not end within {seconds + PATIENCE_S:.0f} s") from err
            except KeyboardInterrupt:
                response.cancel()  # it ends early, and is switched off
                raise
    number = str(told.pop("version"))
    return Taken(**told), number


def _newest(repository: Path, model: str) -> str:
    from engines.artifact import Repository

    return Repository(repository).versions(model)[-1]


def _alone(repository: Path, model: str, version: str, tool: str, seconds: float, threads: int) -> Taken:
    from engines.artifact import Repository
    from profiling.alone import take

    artifact = Repository(repository).open(model, version)
    with console.status(f"profiling {model}/{version} alone with {tool} for {seconds:g} s"):
        return take(artifact, tool, seconds, threads)


def _under_nsys(
    model: str, version: str, seconds: float, repository: Path, threads: int, out: Path | None
) -> bool:
    """Run the same command again under nsys, when that is there and has not started this one."""
    from profiling import nsight
    from profiling.folder import Subject, default_folder

    program = nsight.program()
    if program is None or nsight.is_under():
        return False
    folder = out or default_folder(Subject(model, version, "nsight"), datetime.now(UTC))
    folder.mkdir(parents=True, exist_ok=True)
    again = [
        sys.executable,
        "-m",
        "deployments.cli",
        "profile",
        model,
        "--version",
        version,
        "--with",
        "nsight",
    ]
    again += ["--seconds", f"{seconds:g}", "--repository", str(repository), "--threads", str(threads)]
    command = nsight.around(program, folder, [*again, "--out", str(folder)])
    console.print(" ".join(command), highlight=False, soft_wrap=True)
    if subprocess.run(command).returncode:  # noqa: S603  the arguments are ours
        raise ToolFailed("nsys failed; what it said stands above")
    return True


def _tell(subject: Subject, taken: Taken, found: Found, folder: Path) -> None:
    process, traffic = taken.process, taken.traffic
    where = "alone" if process["kind"] == "alone" else f"in a {process['kind']}"
    console.print(
        f"{subject.model}/{subject.version} {where} (PID {process['pid']} on {process['node']}) "
        f"with {subject.tool}: {taken.seconds:.1f} s, {traffic['requests']} requests, "
        f"{traffic['failed']} failed, {traffic['batches']} batches",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )
    if traffic["p50_s"] is not None:
        latencies = ", ".join(f"P{n} {1000 * traffic[f'p{n}_s']:.1f} ms" for n in (50, 95, 99))
        console.print(f"latency at the batcher: {latencies}", highlight=False)
    for table in found.tables:
        console.print(_as_table(table))
    for note in found.notes:
        console.print(note, highlight=False, soft_wrap=True, markup=False)
    console.print(f"written to {folder}:", highlight=False, soft_wrap=True, markup=False)
    for line in found.view:
        console.print(f"  {line}", highlight=False, soft_wrap=True, markup=False)


def _as_table(sums: Sums) -> Table:
    table = Table(
        "name", "ms", "share", "calls", "", title=f"{sums.title}: {1000 * sums.total_s:.1f} ms in all"
    )
    for row in sums.rows:
        figures = f"{1000 * row.seconds:.1f}", f"{row.share:.1%}", str(row.calls)
        table.add_row(Text(row.name), *figures, Text(row.detail))  # names of functions may look like markup
    return table
