"""The `headrace` command: demo, optimize, publish, serve, status, tune, cache and more."""

from __future__ import annotations

import io
import json
import shlex
import signal
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console

from deployments import (
    audit_cli,
    baseline_cli,
    bench_cli,
    cache_cli,
    doctor_cli,
    k8s_cli,
    plan_cli,
    profile_cli,
    rollout_cli,
    simulate_cli,
    status_cli,
    top_cli,
)
from headrace.errors import (
    CallerError,
    ConfigRejected,
    EngineFailed,
    GoalMissed,
    HeadraceError,
    ToolFailed,
)

if TYPE_CHECKING:
    from deployments.setup import Setup
    from engines.manifest import Manifest
    from headrace.config import Config

cli = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
cli.add_typer(baseline_cli.cli, name="baseline")
cli.add_typer(cache_cli.cli, name="cache")
cli.add_typer(k8s_cli.cli, name="k8s")
cli.add_typer(rollout_cli.cli, name="rollout")
cli.add_typer(rollout_cli.tests, name="ab")
cli.command()(plan_cli.plan)
cli.command()(profile_cli.profile)
cli.command()(simulate_cli.simulate)
cli.command()(bench_cli.bench)
cli.command()(doctor_cli.doctor)
cli.command()(status_cli.status)
cli.command()(top_cli.top)
audit_cli.register(cli)
console = Console()

Out = Annotated[Path, typer.Option(help="Where the versions go: REPOSITORY/NAME.")]
Json = Annotated[Path | None, typer.Option("--json", help="Write the result as JSON to this file, too.")]


@cli.command()
def optimize(
    recipe: Annotated[Path, typer.Argument(help="A Python file that names the model and how it is judged.")],
    out: Out,
    goal: Annotated[
        list[str] | None,
        typer.Option(
            help="max_drop=, min_speedup=, max_size=, min_accuracy= or max_latency_ms=; may be repeated."
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="onnxruntime (unless given), openvino, tensorrt, aot or aot-cuda; may be repeated."
        ),
    ] = None,
    steps: Annotated[
        list[str] | None,
        typer.Option(help="A chain to try, such as 'distill > int8-static'; may be repeated."),
    ] = None,
    version: Annotated[str | None, typer.Option(help="Publish as this version.")] = None,
    fresh: Annotated[bool, typer.Option(help="Forget what an earlier run had done.")] = False,
    json_file: Json = None,
) -> None:
    """Make a model smaller and faster, and publish the best version within its goals.

    Exit status: 2 wrong use, 3 no version reached the goals, 4 an engine failed.
    """
    from deployments.terminal import bars
    from optimize.goals import parse_goals
    from optimize.pipeline import forget
    from optimize.pipeline import optimize as run
    from optimize.recipe import load_recipe
    from optimize.report import as_json
    from optimize.steps import parse_chain
    from optimize.table import as_text

    loaded, goals = load_recipe(recipe), parse_goals(goal or [])
    chains = [parse_chain(text) for text in steps or []]
    if fresh:
        forget(out)
    with bars() as progress:
        report = run(
            loaded, out, goals, progress, chains=chains, targets=target or ["onnxruntime"], version=version
        )
    print(as_text(report))
    if json_file is not None:
        json_file.write_bytes(as_json(report))


@cli.command()
def publish(
    file: Annotated[
        str,
        typer.Argument(
            help="An ONNX graph, a Python file to stand before one, or NAME/VERSION of a published version "
            "to be run by another engine."
        ),
    ],
    name: Annotated[str | None, typer.Option(help="Of the model.")] = None,
    repository: Annotated[Path, typer.Option(help="Where the model's versions go.")] = Path("models"),
    version: Annotated[str | None, typer.Option(help="Instead of the next number.")] = None,
    engine: Annotated[
        str | None, typer.Option(help="onnxruntime (unless given), openvino or tensorrt runs the graph.")
    ] = None,
) -> None:
    """Put a file into the repository as it is, ready to be served."""
    from engines.artifact import Repository
    from optimize.publish import publish as run
    from optimize.publish import publish_again

    shelf = Repository(repository)
    if name is None:
        _tell_published(publish_again(shelf, file, engine, version).manifest)
    else:
        _tell_published(run(Path(file), shelf, name, version, engine).manifest)


@cli.command()
def split(
    model: Annotated[str, typer.Argument(help="NAME/VERSION in the repository.")],
    at: Annotated[str, typer.Option(help="The tensor to cut at; 'list' prints those there are.")],
    repository: Annotated[Path, typer.Option(help="Where the model's versions are.")] = Path("models"),
    backbone: Annotated[str | None, typer.Option(help="Name of the first half: NAME-backbone.")] = None,
    head: Annotated[str | None, typer.Option(help="Name of the second half: NAME-head.")] = None,
) -> None:
    """Cut a model into backbone and head, so that the backbone's output can be cached and shared."""
    from engines.artifact import Repository
    from optimize.split import cut_points, split_artifact

    name, _, number = model.partition("/")
    source = Repository(repository)
    number = number or source.versions(name)[-1]
    if at == "list":
        print("\n".join(cut_points(source.open(name, number).graph_path)))
        return
    names = backbone or f"{name}-backbone", head or f"{name}-head"
    made = split_artifact(source, name, number, at, *names)
    for artifact in made:
        _tell_published(artifact.manifest)


def _tell_published(manifest: Manifest) -> None:
    print(f"{manifest.name}/{manifest.version}: {manifest.size_bytes() / 1e6:.1f} MB")


@cli.command()
def serve(
    config: Annotated[
        Path, typer.Argument(help="A YAML file: which models, from where, within which limits.")
    ],
    host: Annotated[str | None, typer.Option(help="Listen on this address instead of http.host.")] = None,
    port: Annotated[int | None, typer.Option(help="Listen on this port instead of http.port.")] = None,
    grpc_port: Annotated[
        int | None, typer.Option(help="Listen for gRPC on this port instead of grpc.port.")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(help="Deploy on this Ray cluster instead of starting one.", envvar="RAY_ADDRESS"),
    ] = None,
    growing: Annotated[
        bool, typer.Option(help="Wait for nodes that are still to come, where none is large enough.")
    ] = False,
) -> None:
    """Serve the models of a configuration until Ctrl-C, or deploy them on a running Ray cluster."""
    from deployments.serving import join, serving
    from headrace.config import load_config, parse_config

    document = load_config(config).model_dump(exclude_unset=True)  # the rest may be as tuned
    changes = {"host": host, "port": port}
    document.setdefault("http", {}).update({k: value for k, value in changes.items() if value is not None})
    if grpc_port is not None:
        document["grpc"] = {"port": grpc_port}
    checked = parse_config(document)
    if address is not None:
        server = join(checked, address, is_growing=growing)
        console.print(
            f"deployed on {address}; requests go to {' and '.join(server.addresses)} on each of its nodes"
        )
        _tell_setups(server.setups())
        _tell_pipelines(checked)
        return
    with ExitStack() as stack:
        with console.status("starting Ray and loading the models"):
            server = stack.enter_context(serving(checked))
        ended = signalled()
        names = ", ".join((*server.config.models, *server.config.pipelines))
        console.print(f"serving {names} at {' and '.join(server.addresses)}; Ctrl-C ends it")
        _tell_setups(server.setups())
        _tell_pipelines(server.config)
        console.print(f"other Ray jobs: ray.init({server.ray_address!r}); metrics: {server.metrics_url}")
        _tell_traces_and_logs(server.config)
        ended.wait()


def _tell_pipelines(config: Config) -> None:
    for name, pipeline in config.pipelines.items():
        console.print(f"{name}: {' -> '.join(pipeline.steps)}", highlight=False, soft_wrap=True)


def _tell_traces_and_logs(config: Config) -> None:
    import os

    from deployments.logs import in_words as logs_in_words
    from deployments.tracing import in_words as traces_in_words

    if config.tracing is not None:
        told = traces_in_words(config.tracing, os.environ) or "off, as OpenTelemetry's variables say"
        console.print(f"traces: {told}", highlight=False, soft_wrap=True)
    console.print(f"logs: {logs_in_words(config.logs)}", highlight=False, soft_wrap=True)


def _tell_setups(setups: Mapping[str, Mapping[str, Setup | Mapping[str, Any]]]) -> None:
    from deployments.setup import in_words

    for model, versions in setups.items():
        for version, setup in versions.items():
            console.print(f"{model}/{version}: {in_words(setup)}", highlight=False, soft_wrap=True)


@cli.command()
def flags(
    config: Annotated[Path, typer.Argument(help="What will be served.")],
) -> None:
    """What Ray needs in its environment on each node of a cluster of your own, as commands of the shell:

    eval "$(headrace flags CONFIG)" && ray start ...
    """
    from deployments.flags import node_flags
    from headrace.config import load_config

    folder = Path(tempfile.mkdtemp(prefix="headrace-"))  # HAProxy's, for as long as Ray runs
    for name, value in node_flags(load_config(config), folder).items():
        print(f"export {name}={shlex.quote(value)}")


@cli.command()
def tune(
    model: Annotated[str, typer.Argument(help="NAME, or NAME/VERSION.")],
    config: Annotated[
        Path | None, typer.Option(help="The configuration to serve it by; what it gives is settled.")
    ] = None,
    repository: Annotated[Path | None, typer.Option(help="Where the model's versions are.")] = None,
    shapes: Annotated[
        Path | None, typer.Option(help="Sizes of real requests, as headrace shapes writes them.")
    ] = None,
    buckets: Annotated[int, typer.Option(min=0, max=64, help="How many buckets to learn.")] = 4,
    seconds: Annotated[float, typer.Option(min=0.1, help="The time to measure for.")] = 60.0,
    clients: Annotated[int, typer.Option(min=1, help="Requests under way at the same time.")] = 64,
    engine: Annotated[
        list[str] | None,
        typer.Option(
            help="onnxruntime or openvino: try this engine, too, and publish the version for it if it is "
            "faster; may be repeated."
        ),
    ] = None,
    json_file: Json = None,
) -> None:
    """Measure on this machine how a model is served fastest: how many instances with how many threads
    each, and how they batch. headrace serve then runs it so, unless the configuration says otherwise."""
    from deployments import tuning
    from deployments.terminal import bars
    from optimize.tune_report import as_json, as_table, in_words

    subject = tuning.subject(model, config, repository)
    with bars() as progress:
        result = tuning.run(subject, shapes, buckets, seconds, clients, progress, engine or ())
    outcome, manifest = result.outcome, subject.artifact.manifest
    console.print(as_table(outcome, f"{manifest.name}/{manifest.version}"))
    console.print(in_words(outcome))
    for note in result.notes():
        console.print(note)
    if json_file is not None:
        json_file.write_bytes(as_json(outcome))


@cli.command()
def shapes(
    model: Annotated[str, typer.Argument(help="NAME, or NAME/VERSION.")],
    address: Annotated[str, typer.Option(help="The Ray cluster.", envvar="RAY_ADDRESS")] = "auto",
) -> None:
    """The sizes of the requests that a served model has computed, a JSON line each, for headrace tune."""
    from deployments.cluster import answers_only
    from deployments.tuning import recorded

    with answers_only():
        entries = list(recorded(model, address))
    for entry in entries:
        print(json.dumps(entry))


@cli.command()
def demo(
    messages: Annotated[int, typer.Option(min=100, help="How many chat messages to replay.")] = 3000,
    port: Annotated[int, typer.Option(help="The port to serve on.")] = 8000,
    repository: Annotated[Path, typer.Option(help="Where the model's versions go.")] = Path("models"),
    json_file: Json = None,
    page: Annotated[Path, typer.Option(help="Where the page with the result goes.")] = Path("out/demo.html"),
    keep: Annotated[bool, typer.Option(help="Leave the server up until Ctrl-C.")] = False,
) -> None:
    """The main job: a sentence encoder made smaller, served, asked and answered."""
    from examples.demo import Settings
    from examples.demo import main as run

    raise typer.Exit(run(Settings(messages, port, repository, json_file, page, keep)))


def signalled() -> threading.Event:
    """Set by Ctrl-C or SIGTERM, which from now on end nothing by themselves."""
    done = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        done.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    return done


def _terminate(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


# What scripts can tell apart; everything else of ours is 1.
_EXIT = {ConfigRejected: 2, CallerError: 2, GoalMissed: 3, EngineFailed: 4, ToolFailed: 4}


def exit_code(err: HeadraceError) -> int:
    return next((code for kind, code in _EXIT.items() if isinstance(err, kind)), 1)


def main() -> None:
    """Errors of ours are one clear message and an exit code; Ctrl-C and SIGTERM end in order with 130."""
    signal.signal(signal.SIGTERM, _terminate)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # who reads a pipe wants each line when it is said
    try:
        cli()
    except HeadraceError as err:
        # One that came through a handle is Ray's, too, and tells of its way; its cause is the plain one.
        print(f"headrace: {getattr(err, 'cause', err)}", file=sys.stderr)
        sys.exit(exit_code(err))
    except KeyboardInterrupt:
        print("headrace: ended", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
