"""From a recipe to published versions: the original, then a smaller one if it stays within its goals."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from engines.artifact import Artifact, Repository
from engines.base import Engine
from engines.load import load
from headrace.config import check_name
from headrace.errors import ConfigRejected, GoalMissed, NotFound
from optimize import worker
from optimize.goals import Goals, judge
from optimize.machine import this_machine
from optimize.measure import (
    TOGGLES,
    Measured,
    accuracy,
    agreement,
    check_padding,
    latencies,
    padded_agreement,
    warm_up_sizes,
    with_session,
)
from optimize.page import as_html
from optimize.progress import Line, Progress
from optimize.recipe import Recipe
from optimize.report import Report, Row, as_json, as_text

_REPEATS = 15  # of each example, when speed is measured
_ORIGINAL, _CANDIDATE = "fp32", "int8-dynamic"


@dataclass(frozen=True, slots=True)
class _Run:
    recipe: Recipe
    repository: Repository
    name: str
    scratch: Repository  # where versions wait that may never be published
    progress: Progress | None

    def line(self, step: str, total: int | None = None) -> Line:
        return Line(self.progress, f"{self.name}: {step}", total)


@dataclass(frozen=True, slots=True)
class _Staged:
    """A version that waits in the scratch repository, or is published already."""

    artifact: Artifact
    is_published: bool

    def variants(self) -> list[Artifact]:
        """The ways to load it that are worth trying."""
        if self.is_published:
            return [self.artifact]
        return [with_session(self.artifact, session) for session in TOGGLES]


def optimize(
    recipe: Recipe,
    out: Path,
    goals: Goals | None = None,
    progress: Progress | None = None,
    command: str | None = None,
) -> Report:
    """Publish the recipe's model and its INT8 version under `out`, which is REPOSITORY/NAME.

    A version whose files are in the repository already is used again, so a second run adds
    nothing. Raises GoalMissed with a table of the reasons when the INT8 version is outside its
    goals (only the original is published then), ConfigRejected when model or recipe do not allow it.
    """
    goals = goals or Goals()
    with TemporaryDirectory(prefix="headrace-optimize-") as folder:
        run = _Run(recipe, Repository(out.parent), _name(out), Repository(Path(folder)), progress)
        original, known = _original(run)
        staged = _candidate(run, original)
        before, candidate, after = _compare(run, original, known, staged)
        version = candidate.manifest.version if staged.is_published else _next_version(run)
        report = Report(
            model=run.name,
            before=_row(original, original.manifest.version, before),
            after=_row(candidate, version, after),
            goals=goals,
            misses=tuple(judge(goals, before, after)),
            machine=this_machine(),
            command=command or _command(recipe, out, goals),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        if report.misses:
            raise GoalMissed(f"{run.name} as {_CANDIDATE} is not published\n{as_text(report)}")
        if not staged.is_published:
            reports = {"report.json": as_json(report), "report.html": as_html(report).encode()}
            _publish(run, candidate, version, report.figures(), reports, parent=original.manifest.version)
    return report


def _original(run: _Run) -> tuple[Artifact, Measured]:
    """The model as the recipe gives it, published, and its figures."""
    staged = _stage(run, run.recipe.files, run.recipe.graph, _ORIGINAL)
    with ExitStack() as stack:
        engines = _load(staged.variants(), stack)
        line = run.line("speed of the original", _REPEATS)
        speeds = latencies([engine for _, engine in engines], run.recipe.examples, _REPEATS, line)
        latency_ms, (artifact, engine) = min(zip(speeds, engines, strict=True), key=lambda pair: pair[0])
        if run.recipe.grouping == "nearest":
            check_padding(engine, run.recipe.examples)
        measured = Measured(
            size_bytes=artifact.manifest.size_bytes(),
            latency_ms=latency_ms,
            accuracy=accuracy(engine, run.recipe.evaluate, run.line("accuracy of the original")),
        )
    if staged.is_published:
        return artifact, measured
    return _publish(run, artifact, _next_version(run), measured.figures()), measured


def _candidate(run: _Run, original: Artifact) -> _Staged:
    line = run.line(f"making {_CANDIDATE}", 1)
    with TemporaryDirectory(prefix="headrace-candidate-") as folder:
        made = worker.run(original.graph_path, Path(folder) / original.manifest.graph)
        files = {path.name: path for path in made.parent.iterdir()}
        staged = _stage(run, files, made.name, _CANDIDATE)
    line.advance()
    return staged


def _compare(
    run: _Run, original: Artifact, known: Measured, staged: _Staged
) -> tuple[Measured, Artifact, Measured]:
    """The original's figures, the candidate loaded in its faster way, and its figures.

    Speed is measured again for both, in turns, so that the machine's drift is not part of the ratio.
    """
    recipe = run.recipe
    with ExitStack() as stack:
        (_, reference), *variants = engines = _load([original, *staged.variants()], stack)
        line = run.line(f"speed of {_CANDIDATE}", _REPEATS)
        before_ms, *speeds = latencies([engine for _, engine in engines], recipe.examples, _REPEATS, line)
        latency_ms, (artifact, engine) = min(zip(speeds, variants, strict=True), key=lambda pair: pair[0])
        mean, least = agreement(reference, engine, recipe.examples)
        padded = (
            padded_agreement(reference, engine, recipe.examples)
            if recipe.grouping == "nearest"
            else (1.0, 1.0)
        )
        after = Measured(
            size_bytes=artifact.manifest.size_bytes(),
            latency_ms=latency_ms,
            accuracy=accuracy(engine, recipe.evaluate, run.line(f"accuracy of {_CANDIDATE}")),
            agreement_mean=mean,
            agreement_min=least,
            padded_mean=padded[0],
            padded_min=padded[1],
        )
    return replace(known, latency_ms=before_ms), artifact, after


def _load(artifacts: list[Artifact], stack: ExitStack) -> list[tuple[Artifact, Engine]]:
    return [(artifact, stack.enter_context(closing(load(artifact, threads=1)))) for artifact in artifacts]


def _stage(run: _Run, files: Mapping[str, Path], graph: str, precision: str) -> _Staged:
    """The version of the repository that holds the same, or a new one in the scratch repository."""
    recipe = run.recipe
    staged = run.scratch.publish(
        run.name,
        precision,
        files,
        graph=graph,
        signature=recipe.signature,
        grouping=recipe.grouping,
        warm_up=warm_up_sizes(recipe.signature, recipe.examples),
        precision=precision,
    )
    for version in _versions(run):
        published = run.repository.open(run.name, version)
        if _content(published) == _content(staged):
            return _Staged(published, is_published=True)
    return _Staged(staged, is_published=False)


def _content(artifact: Artifact) -> tuple[object, ...]:
    """What makes two versions the same, however they are loaded."""
    manifest = artifact.manifest
    signature = manifest.model_dump(include={"signature"})
    return manifest.graph, manifest.graph_files(), signature, manifest.grouping, manifest.precision


def _publish(
    run: _Run,
    artifact: Artifact,
    version: str,
    figures: Mapping[str, float],
    reports: Mapping[str, bytes] | None = None,
    parent: str | None = None,
) -> Artifact:
    manifest = artifact.manifest
    graph_files = {file: artifact.folder / file for file in manifest.graph_files()}
    return run.repository.publish(
        run.name,
        version,
        {**graph_files, **(reports or {})},
        graph=manifest.graph,
        signature=manifest.signature,
        session=manifest.session,
        grouping=manifest.grouping,
        warm_up=manifest.warm_up,
        precision=manifest.precision,
        parent=parent,
        figures=figures,
    )


def _versions(run: _Run) -> list[str]:
    try:
        return run.repository.versions(run.name)
    except NotFound:
        return []


def _next_version(run: _Run) -> str:
    return str(max((int(version) for version in _versions(run) if version.isdigit()), default=0) + 1)


def _row(artifact: Artifact, version: str, measured: Measured) -> Row:
    return Row(version, artifact.manifest.precision, artifact.manifest.session, measured)


def _name(out: Path) -> str:
    try:
        return check_name(out.name)
    except ValueError as err:
        raise ConfigRejected(f"the model's name is the last part of {str(out)!r}: {err}") from err


def _command(recipe: Recipe, out: Path, goals: Goals) -> str:
    wanted = [f"{name}={value:g}" for name, value in asdict(goals).items() if value is not None]
    parts = ["headrace", "optimize", _short(recipe.path), "--out", _short(out)]
    return shlex.join([*parts, *(part for goal in wanted for part in ("--goal", goal))])


def _short(path: Path) -> str:
    """Seen from here if it lies below: reports travel, and the folders above say too much."""
    here = Path.cwd()
    return str(path.resolve().relative_to(here)) if path.resolve().is_relative_to(here) else path.name
