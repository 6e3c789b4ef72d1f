"""`headrace audit`, `headrace reoptimize` and `headrace inputs`: what to do about a server, and doing it."""

from __future__ import annotations

import json
import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from headrace.errors import ConfigRejected, EngineFailed, EngineUnavailable

if TYPE_CHECKING:
    from headrace.tensors import Array
    from optimize.again import Outcome

console = Console()
_PATIENCE_S = 70.0

Json = Annotated[Path | None, typer.Option("--json", help="Write the result as JSON to this file, too.")]


def register(cli: typer.Typer) -> None:
    """Add the commands."""
    for command in (audit, reoptimize, inputs):
        cli.command()(command)


def audit(
    config: Annotated[
        Path | None, typer.Argument(help="The YAML file that is served; else what the cluster serves.")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            help="The Ray cluster; 'auto' without a configuration, else none unless given.",
            envvar="RAY_ADDRESS",
        ),
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            help="Ray's Prometheus port instead of those of the cluster's nodes: http://HOST:PORT/metrics; "
            "may be repeated, and a name of several addresses is each of them."
        ),
    ] = None,
    seconds: Annotated[
        float,
        typer.Option(min=1, help="Between two looks at the metrics; Ray renews them every ten seconds."),
    ] = 60.0,
    upgrades: Annotated[
        bool,
        typer.Option(
            help="Install the newest releases of the engines' libraries in a throw-away environment, and "
            "measure the versions with them, too."
        ),
    ] = False,
    upgrade_seconds: Annotated[float, typer.Option(min=4, help="Of measuring each version.")] = 20.0,
    json_file: Json = None,
    page: Annotated[Path | None, typer.Option(help="Write the result as a page to this file, too.")] = None,
) -> None:
    """What to do about the models that are served, the largest gain first, with the command for each.

    With a configuration alone it looks at the repository; with --address or --metrics at the traffic, too.
    What cannot be known is said, and is no reason to fail.

    Exit status: 0 nothing to do, 1 something is to be done, 2 wrong use, 4 a server or a repository that was
    named does not answer.
    """
    from deployments.audit_facts import Sources, gather
    from deployments.audit_page import as_html, as_tables
    from deployments.audit_upgrades import with_upgrades
    from deployments.cluster import answers_only
    from rollout.audit import as_json
    from rollout.audit import audit as judge

    asked = address or ("auto" if config is None else None)
    sources = Sources(config, asked, tuple(metrics or ()), seconds)
    with _failing_with_4(), answers_only():
        facts = gather(sources)
    if upgrades:
        facts = with_upgrades(facts, upgrade_seconds, lambda words: print(words, file=sys.stderr))
    found = judge(facts)
    for table in as_tables(found):
        console.print(table)
    for number, finding in enumerate(found.findings, 1):
        console.print(f"{number}. {finding.command}", highlight=False, soft_wrap=True, markup=False)
    for words in found.unknown:
        console.print(f"not known: {words}", highlight=False, soft_wrap=True, markup=False)
    if json_file is not None:
        _write(json_file, json.dumps(as_json(found), indent=2, allow_nan=False))
    if page is not None:
        _write(page, as_html(found))
    raise typer.Exit(found.exit_code)


def inputs(
    model: Annotated[str, typer.Argument(help="NAME, or NAME/VERSION.")],
    out: Annotated[Path, typer.Option(help="The file to write, numpy's .npz.")],
    address: Annotated[str, typer.Option(help="The Ray cluster.", envvar="RAY_ADDRESS")] = "auto",
) -> None:
    """Write what the gateways have kept of recent inputs (models.NAME.keep_inputs), for headrace reoptimize.

    They are what callers have sent: treat the file as they would want you to.
    """
    from optimize.inputs import write_inputs

    rows = recent_inputs(model, address)
    write_inputs(out, rows)
    console.print(f"{len(rows)} requests' inputs in {out}", highlight=False, soft_wrap=True)


def reoptimize(
    model: Annotated[str, typer.Argument(help="NAME, or NAME/VERSION: what the new one is compared with.")],
    recipe: Annotated[Path, typer.Option(help="As headrace optimize takes it.")],
    config: Annotated[
        Path | None, typer.Option(help="The configuration that the model is served by.")
    ] = None,
    repository: Annotated[Path | None, typer.Option(help="Else where its versions are: models.")] = None,
    recent: Annotated[
        Path | None,
        typer.Option("--inputs", help="A file of inputs to calibrate with, as headrace inputs writes it."),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            help="The Ray cluster: recent inputs are taken from it, unless --inputs is given. Without either "
            "the recipe's own are used."
        ),
    ] = None,
    rollout: Annotated[
        bool, typer.Option("--rollout", help="Begin to roll the new version out on --address.")
    ] = False,
    goal: Annotated[
        list[str] | None, typer.Option(help="As headrace optimize takes it; may be repeated.")
    ] = None,
    target: Annotated[list[str] | None, typer.Option(help="Likewise.")] = None,
    steps: Annotated[list[str] | None, typer.Option(help="Likewise.")] = None,
    json_file: Json = None,
) -> None:
    """Run a recipe again, calibrated on recent real inputs, and publish what it gives if that is within the
    goals and better than the version that answers.

    Exit status: 0 published, or nothing better was found; 2 wrong use, 3 no version reached the goals,
    4 an engine failed.
    """
    from deployments.terminal import bars
    from deployments.tuning import subject
    from optimize.again import reoptimize as run
    from optimize.goals import parse_goals
    from optimize.inputs import read_inputs, write_inputs
    from optimize.recipe import load_recipe
    from optimize.report import as_json
    from optimize.steps import parse_chain

    if rollout and address is None:
        raise ConfigRejected("--rollout needs --address: the Ray cluster that serves the model")
    found = subject(model, config, repository or (Path("models") if config is None else None))
    goals, chains = parse_goals(goal or []), [parse_chain(text) for text in steps or []]
    with tempfile.TemporaryDirectory(prefix="headrace-inputs-") as folder:
        if address is not None and recent is None:
            recent = Path(folder) / "recent.npz"
            write_inputs(recent, recent_inputs(model, address))
        if recent is not None and not read_inputs(recent):
            raise ConfigRejected(
                "no input is kept yet that could be calibrated with; wait for requests, or leave --address "
                "and --inputs out: then the recipe's own are used"
            )
        with bars() as progress:
            outcome = run(
                load_recipe(recipe, recent),
                found.artifact,
                found.repository,
                goals,
                progress,
                chains=chains,
                targets=target or ["onnxruntime"],
                command=shlex.join(["headrace", *sys.argv[1:]]),
            )
    name = found.artifact.manifest.name
    _tell(outcome, name)
    if json_file is not None:
        json_file.write_bytes(as_json(outcome.report))
    if outcome.version is None:
        return
    if rollout and address is not None:
        start_rollout(name, outcome.version, address)
    console.print(
        f"headrace rollout {'status' if rollout else 'start'} {name}"
        + ("" if rollout else f" --to {outcome.version}"),
        highlight=False,
        soft_wrap=True,
    )


def recent_inputs(model: str, address: str) -> list[dict[str, Array]]:
    """What all gateways of a cluster have kept for NAME or NAME/VERSION; NotFound where they keep none."""
    from deployments.cluster import answers_only
    from deployments.everyone import ask_all
    from deployments.status import served

    name, _, version = model.partition("/")
    with answers_only():
        gateways = served(address)
        kept = ask_all(gateways, "kept_inputs", name, version or None, timeout_s=_PATIENCE_S)
    return [row for rows in kept for row in rows]


def _tell(outcome: Outcome, name: str) -> None:
    if outcome.version is None:
        console.print(f"nothing is published: {outcome.why}", highlight=False, soft_wrap=True)
        return
    console.print(f"{name}/{outcome.version}: {outcome.why}", highlight=False, soft_wrap=True)


def start_rollout(model: str, version: str, address: str) -> None:
    """As `headrace rollout start` does without further options."""
    from deployments.cluster import answers_only
    from deployments.status import served

    with answers_only():
        gateways = served(address)
        gateways.rollout.remote("start", model, {"to": version}).result(timeout_s=_PATIENCE_S)


@contextmanager
def _failing_with_4() -> Iterator[None]:
    """1 says that there is something to do, so a server that is gone must be told otherwise."""
    try:
        yield
    except EngineUnavailable as err:
        raise EngineFailed(str(err)) from err


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
