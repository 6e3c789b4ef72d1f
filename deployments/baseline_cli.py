"""`headrace baseline`: what a version was measured to be, and whether the next one is worse."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from headrace.errors import CallerError, GoalMissed

if TYPE_CHECKING:
    from engines.artifact import Repository

cli = typer.Typer(no_args_is_help=True, help=__doc__)
console = Console()

Model = Annotated[str, typer.Argument(help="NAME, which is the version that answers, or NAME/VERSION.")]
Shelf = Annotated[Path, typer.Option("--repository", help="Where the model's versions are.")]
Shapes = Annotated[
    Path | None,
    typer.Option(help="Sizes of real requests, as headrace shapes writes them; else those of the manifest."),
]
Judge = Annotated[
    Path | None,
    typer.Option(
        "--recipe", help="A recipe whose evaluate() measures the accuracy; else the manifest tells it."
    ),
]
Json = Annotated[Path | None, typer.Option("--json", help="Write the result as JSON to this file, too.")]


@cli.command()
def record(
    model: Model,
    repository: Shelf = Path("models"),
    seconds: Annotated[float, typer.Option(min=0.1, help="The time to measure for.")] = 10.0,
    shapes: Shapes = None,
    recipe: Judge = None,
    json_file: Json = None,
) -> None:
    """Measure a version on this machine and keep the figures with it, as baseline.json: latency by batch and
    shape, throughput, size, accuracy, cost, and the machine. A former baseline is replaced."""
    from deployments.terminal import bars
    from engines.artifact import Repository
    from optimize.demand import read_shapes
    from optimize.recipe import load_recipe
    from rollout.check import record as run
    from rollout.check_report import baseline_table

    shelf = Repository(repository)
    name, version = _named(shelf, model)
    seen = read_shapes(shapes, shelf.manifest(name, version).signature) if shapes else []
    loaded = load_recipe(recipe) if recipe else None
    with bars() as progress:
        baseline = run(shelf, name, version, seconds=seconds, seen=seen, recipe=loaded, progress=progress)
    console.print(baseline_table(baseline))
    if json_file is not None:
        json_file.write_text(baseline.model_dump_json(indent=2) + "\n", encoding="utf-8")


@cli.command()
def check(
    model: Annotated[str, typer.Argument(help="NAME/VERSION, the new one.")],
    against: Annotated[
        str | None,
        typer.Option(
            help="The old version. Unless given, of those with a baseline: the one that answers, else the "
            "parent of the new one, else the newest other one, else the new one itself."
        ),
    ] = None,
    repository: Shelf = Path("models"),
    seconds: Annotated[
        float, typer.Option(min=0.1, help="The most time to measure for; it ends as soon as all is clear.")
    ] = 30.0,
    tolerance: Annotated[
        float,
        typer.Option(min=0.01, max=10, help="0.1: latency, size and cost may be 10% more; a P95 twice that."),
    ] = 0.1,
    max_drop: Annotated[float, typer.Option(min=0, help="How much the accuracy may fall.")] = 0.01,
    shapes: Shapes = None,
    recipe: Judge = None,
    python: Annotated[
        Path | None,
        typer.Option(
            help="Interpreter of another environment for the new one: the same version, newer libraries."
        ),
    ] = None,
    json_file: Json = None,
) -> None:
    """Run an old and a new version in turns on this machine, and fail when the new one is worse beyond noise.

    Both run in the set-up of the new one, in processes of their own. Worse is what new processes find again.
    Exit status: 0 no worse, 2 wrong use, 3 worse.
    """
    from deployments.terminal import bars
    from engines.artifact import Repository
    from optimize.demand import read_shapes
    from optimize.recipe import load_recipe
    from rollout.check import check as run
    from rollout.check_report import check_json, check_table, in_words

    shelf = Repository(repository)
    if "/" not in model:
        raise CallerError(f"{model[:64]!r}: which version is the new one? Name it as {model[:64]}/VERSION")
    name, version = _named(shelf, model)
    seen = read_shapes(shapes, shelf.manifest(name, version).signature) if shapes else []
    with bars() as progress:
        found = run(
            shelf,
            name,
            version,
            against=against,
            seconds=seconds,
            tolerance=tolerance,
            max_drop=max_drop,
            seen=seen,
            recipe=load_recipe(recipe) if recipe else None,
            python=python,
            progress=progress,
        )
    console.print(check_table(found))
    for note in found.notes:
        console.print(note, highlight=False, soft_wrap=True)
    if json_file is not None:
        json_file.write_bytes(check_json(found))
    if found.regressions:
        raise GoalMissed(in_words(found))
    console.print(in_words(found), highlight=False, soft_wrap=True)


@cli.command()
def show(
    model: Model,
    repository: Shelf = Path("models"),
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """The baseline that is kept with a version, and whether this machine is the one it was recorded on."""
    from engines.artifact import Repository
    from rollout.baseline import read_baseline
    from rollout.check_report import baseline_table
    from rollout.fingerprint import differences, fingerprint

    shelf = Repository(repository)
    name, version = _named(shelf, model)
    baseline = read_baseline(shelf, shelf.open(name, version))
    if baseline is None:
        raise CallerError(
            f"'{name}/{version}' has no baseline; record one by: headrace baseline record {model}"
        )
    if json_output:
        print(baseline.model_dump_json(indent=2))
        return
    console.print(baseline_table(baseline))
    changed = differences(baseline.fingerprint, fingerprint())
    told = (
        f"not comparable with this machine: {'; '.join(changed)}" if changed else "recorded on such a machine"
    )
    console.print(told, highlight=False, soft_wrap=True)


def _named(shelf: Repository, model: str) -> tuple[str, str]:
    from rollout.check import answering

    name, _, version = model.partition("/")
    return name, version or answering(shelf, name)
