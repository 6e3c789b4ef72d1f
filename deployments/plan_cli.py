"""`headrace plan`: TensorRT's plans of a version, built before a server needs them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from deployments.setup import Setup
    from engines.artifact import Artifact
    from optimize.plans import Built

console = Console()
_MIB = 1 << 20


def plan(
    model: Annotated[str, typer.Argument(help="NAME, or NAME/VERSION: one for the engine tensorrt.")],
    architecture: Annotated[
        list[str] | None,
        typer.Option(
            help="The compute capability of a GPU, such as 8.9, if it is not here; may be repeated. Only "
            "TensorRT for RTX builds for GPUs that are not here."
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="The configuration to serve it by: it tells the size of batches.")
    ] = None,
    repository: Annotated[Path | None, typer.Option(help="Where the model's versions are.")] = None,
    library: Annotated[
        str | None, typer.Option(help="tensorrt or tensorrt_rtx, if both are installed.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the result as JSON to this file, too.")
    ] = None,
) -> None:
    """Build a version's TensorRT plans now, so that no replica has to when it starts.

    They are kept in the folder that HEADRACE_PLANS names, else in the user's cache, where replicas of the
    same user look; a plan fits one kind of GPU, one release of TensorRT, and batches of one configuration.
    """
    from deployments.cli import signalled
    from deployments.terminal import bars
    from engines.tensorrt import plans_here
    from engines.trt_library import RTX, find
    from optimize.plans import build_plans

    artifact, setup = _subject(model, config, repository)
    found = find(*([library] if library else [RTX] if architecture else []))
    ended = signalled()
    batching = setup.batching
    with bars() as progress:
        built = build_plans(
            artifact,
            found,
            plans_here(),
            architecture or (),
            max_batch=batching.max_batch,
            buckets=setup.buckets(artifact.manifest.signature),
            progress=progress,
            goes_on=lambda: not ended.is_set(),
        )
    _tell(f"{artifact.manifest.name}/{artifact.manifest.version}", built)
    if json_file is not None:
        json_file.write_text(json.dumps([asdict(each) for each in built], indent=2) + "\n")


def _subject(model: str, config: Path | None, repository: Path | None) -> tuple[Artifact, Setup]:
    """The version, and how it would be served."""
    from deployments.setup import instances_of, setup_of
    from deployments.tuning import entry_of, shelf_of
    from deployments.versions import chosen_versions
    from engines.cpu import cpu_cores
    from headrace.config import ModelConfig, load_config

    name, _, version = model.partition("/")
    shelf = shelf_of(config, repository)
    document = None if config is None else load_config(config)
    entry = ModelConfig(placement="replicas", num_gpus=1) if document is None else entry_of(document, name)
    artifact = shelf.open(name, version or chosen_versions(shelf, name, entry)[-1])
    instances = entry.max_replicas if document is None else instances_of(document, entry)
    return artifact, setup_of(entry, artifact.manifest, instances, cpu_cores())


def _tell(title: str, built: list[Built]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(title=f"plans of {title} by {built[0].library}", box=box.SIMPLE_HEAD)
    table.add_column("architecture", no_wrap=True)
    for name in ("MiB", "s"):
        table.add_column(name, justify="right")
    table.add_column("profiles")
    for each in built:
        seconds = f"{each.seconds:.1f}" if each.seconds else "was there"
        table.add_row(each.architecture, f"{each.size_bytes / _MIB:.1f}", seconds, "; ".join(each.profiles))
    console.print(table)
    for warning in dict.fromkeys(warning for each in built for warning in each.warnings):
        console.print(f"TensorRT warns: {' '.join(warning.split())}", highlight=False, soft_wrap=True)
