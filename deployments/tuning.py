"""`headrace tune` and `headrace shapes`: from what is served to a set-up for it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batching.learn import learn_buckets
from batching.seen import merged
from batching.shapes import elements
from deployments.everyone import ask_all
from deployments.setup import ON_GPUS
from deployments.status import served
from deployments.versions import chosen_versions
from engines.artifact import Artifact, Repository
from engines.cpu import cpu_cores, cpu_model
from engines.manifest import Machine
from headrace.config import Config, ModelConfig, load_config
from headrace.errors import ConfigRejected, NotFound
from optimize.demand import known_shapes, read_shapes, variable_dims
from optimize.publish import publish_again
from optimize.tune import Fixed, Outcome, fixed_by, tune
from optimize.tune_engines import LEAST, ON_CPUS, agreeing, alternatives, check_engines

if TYPE_CHECKING:
    from optimize.progress import Progress

_PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class Subject:
    """The version to be tuned, and what is settled about it."""

    repository: Repository
    artifact: Artifact
    fixed: Fixed
    buckets: list[dict[str, int]]  # given by the configuration


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured, and the version that has it in its manifest now."""

    outcome: Outcome
    artifact: Artifact
    least: dict[str, float]  # cosine between the version's answers and those of each other engine

    def notes(self) -> Iterator[str]:
        """What became of the other engines, in words."""
        for engine, cosine in self.least.items():
            if cosine < LEAST:
                told = f"least cosine {cosine:.4f}, needed {LEAST:g}"
                yield f"{engine} was not tried: its answers differ ({told})"
            elif engine == self.artifact.manifest.engine:
                name, version = self.artifact.manifest.name, self.artifact.manifest.version
                yield (
                    f"published as '{name}/{version}' for {engine}, whose answers agree (least cosine "
                    f"{cosine:.4f}); to serve it: headrace rollout start {name} --to {version}"
                )
            else:
                yield f"{engine} is not faster by more than noise"


def subject(model: str, config: Path | None, repository: Path | None) -> Subject:
    """NAME or NAME/VERSION of a configuration or a repository; without a version the one that answers."""
    name, _, version = model.partition("/")
    shelf = shelf_of(config, repository)
    if config is None:
        fixed, entry = Fixed(), ModelConfig()
    else:
        document = load_config(config)
        entry = entry_of(document, name)
        fixed = fixed_by(document, entry)
    version = version or chosen_versions(shelf, name, entry)[-1]
    return Subject(shelf, shelf.open(name, version), fixed, entry.batching.buckets)


def shelf_of(config: Path | None, repository: Path | None) -> Repository:
    """The repository that is named, or that a configuration names; ConfigRejected when it is not one of
    these."""
    if config is not None and repository is None:
        return Repository(Path(load_config(config).repository))
    if repository is not None and config is None:
        return Repository(repository)
    raise ConfigRejected("name either --config FILE or --repository FOLDER")


def entry_of(config: Config, name: str) -> ModelConfig:
    if name not in config.models:
        raise NotFound(f"no model {name!r} in the configuration; it has: {', '.join(sorted(config.models))}")
    return config.models[name]


def run(
    subject: Subject,
    shapes: Path | None,
    buckets: int,
    seconds: float,
    clients: int,
    progress: Progress | None = None,
    engines: Sequence[str] = (),
) -> Result:
    """Measure, and write what was chosen into the version's manifest; into that of a new version when another
    one of the engines is faster."""
    artifact = subject.artifact
    manifest = artifact.manifest
    if manifest.engine in ON_GPUS:
        raise ConfigRejected(
            f"'{manifest.name}/{manifest.version}' is for {manifest.engine}, on a GPU; tune measures engines "
            f"on CPUs: {' and '.join(ON_CPUS)}"
        )
    check_engines(artifact, engines)
    seen = known_shapes(manifest) if shapes is None else read_shapes(shapes, manifest.signature)
    learned: list[dict[str, int]] = list(subject.buckets)
    if not learned and buckets and variable_dims(manifest.signature):
        learned = learn_buckets(seen, buckets, partial(elements, manifest.signature.inputs))
    with tempfile.TemporaryDirectory() as folder:
        others = alternatives(artifact, engines, Path(folder))
        others, least = agreeing(artifact, others, [size for size, _ in seen]) if others else ({}, {})
        outcome = tune(
            artifact,
            seen,
            Machine(cpu=cpu_model(), cores=cpu_cores()),
            seconds=seconds,
            clients=clients,
            buckets=learned,
            fixed=subject.fixed,
            others=others,
            progress=progress,
        )
    if engine := outcome.chosen.candidate.engine:
        artifact = publish_again(subject.repository, f"{manifest.name}/{manifest.version}", engine)
    return Result(outcome, subject.repository.set_tuned(artifact, outcome.tuned), least)


def recorded(model: str, address: str) -> list[dict[str, Any]]:
    """The sizes of the requests that the gateways of a cluster have computed for NAME or NAME/VERSION.

    EngineUnavailable when no server answers there, NotFound for a model that is not served.
    """
    name, _, version = model.partition("/")
    answers = ask_all(served(address), "shapes", name, version or None, timeout_s=_PATIENCE_S)
    return merged([told for told in answers if told])
