"""A recipe once more, on inputs of today: a new version if it is within the goals and better than before."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engines.artifact import Artifact, Repository
from engines.load import load
from engines.manifest import digest_of
from headrace.errors import ConfigRejected
from optimize import pipeline
from optimize.choose import choose
from optimize.goals import Goals, judge
from optimize.measure import Measured, accuracy, latencies
from optimize.prepare import read_examples
from optimize.progress import Line, Progress
from optimize.publish import next_version, republish
from optimize.recipe import Recipe
from optimize.report import Report
from optimize.steps import Chain

_REPEATS = 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it. The two were measured in turns here, one row on one thread."""

    report: Report
    present: Measured
    new: Measured
    version: str | None  # that is better, published now or before; None: the present one stays
    why: str


def reoptimize(
    recipe: Recipe,
    present: Artifact,
    repository: Repository,
    goals: Goals,
    progress: Progress | None = None,
    *,
    chains: Sequence[Chain] = (),
    targets: Sequence[str] = ("onnxruntime",),
    command: str | None = None,
) -> Outcome:
    """Run the recipe apart from the repository, and publish what it chose there only when that is better than
    `present`: clearly faster, or as fast and more accurate or smaller; or when `present` misses the goals.

    Raises what `optimize.pipeline.optimize` raises (GoalMissed: nothing was within the goals), and
    ConfigRejected when the recipe's model takes or gives other tensors by now.
    """
    name = present.manifest.name
    version = next_version(repository, name)
    with tempfile.TemporaryDirectory(prefix="headrace-again-") as folder:
        report = pipeline.optimize(
            recipe,
            Path(folder) / name,
            goals,
            progress,
            chains=chains,
            targets=targets,
            version=version,
            command=command,
            work=pipeline.work_of(repository.root / name),
        )
        made = Repository(Path(folder))
        new = made.open(name, version)
        if new.manifest.signature != present.manifest.signature:
            raise ConfigRejected(
                f"the recipe's model takes or gives other tensors than '{name}/{present.manifest.version}', "
                "so that its callers could not go on; publish it under another name: headrace optimize"
            )
        was, is_now = _measured(recipe, present, new, progress)
        why = _better(goals, report, present, new, was, is_now)
        if not why:
            return Outcome(report, was, is_now, None, f"version {present.manifest.version} is as good")
        there = _like(repository, new)
        if there is None:
            parent = _like(repository, made.open(name, report.original.version))
            manifest = new.manifest
            files = {file: new.folder / file for file in manifest.files}
            figures, latencies_ = manifest.figures, manifest.latencies
            republish(repository, new, version, files, parent=parent, figures=figures, latencies=latencies_)
        return Outcome(report, was, is_now, there or version, why)


def _measured(
    recipe: Recipe, present: Artifact, new: Artifact, progress: Progress | None
) -> tuple[Measured, Measured]:
    """Both in turns; speed relative to the present one."""
    artifacts = present, new
    engines = [load(artifact, 1) for artifact in artifacts]
    try:
        examples = read_examples(recipe, present.manifest.signature)
        line = Line(progress, "the present version and the new one in turns", _REPEATS)
        milliseconds = latencies(engines, examples, _REPEATS, line).milliseconds()
        line.finish()
        found = [
            Measured(
                size_bytes=artifact.manifest.size_bytes(),
                latency_ms=took_ms,
                accuracy=accuracy(engine, recipe, Line(progress, "accuracy", None)),
                original_ms=milliseconds[0],
            )
            for artifact, engine, took_ms in zip(artifacts, engines, milliseconds, strict=True)
        ]
    finally:
        for engine in engines:
            engine.close()
    return found[0], found[1]


def _better(
    goals: Goals, report: Report, present: Artifact, new: Artifact, was: Measured, is_now: Measured
) -> str:
    """Why the new one is to be published; "": it is not."""
    if new.digest == present.digest:
        return ""
    before = report.before.measured
    if missed := judge(goals, before, replace(was, original_ms=0.0)):
        return f"version {present.manifest.version} misses its goals by now: {'; '.join(map(str, missed))}"
    if choose([was, is_now]) == 0:
        return ""
    return (
        f"it is {is_now.speedup:.2f}x as fast as version {present.manifest.version}, with an accuracy of "
        f"{is_now.accuracy:.4f} instead of {was.accuracy:.4f} and {is_now.size_bytes / was.size_bytes:.2f}x "
        "its size"
    )


def _like(repository: Repository, artifact: Artifact) -> str | None:
    """The version of the repository that answers the same."""
    for version in repository.versions(artifact.manifest.name):
        manifest = repository.manifest(artifact.manifest.name, version)
        if digest_of(manifest) == artifact.digest:
            return version
    return None
