"""From a recipe to published versions: the original, then the best version within its goals."""

from __future__ import annotations

import re
import shlex
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from engines.artifact import Artifact, Repository, unpublished
from engines.manifest import BatchLatency
from engines.probe import probe
from headrace.config import check_name
from headrace.errors import ConfigRejected, EngineFailed, GoalMissed, HeadraceError, NotFound
from headrace.tensors import Signature
from optimize import steps
from optimize.choose import choose
from optimize.compiled import DEVICES, why_not
from optimize.flow import Candidate, Flow, RecipeWrong
from optimize.goals import Goals, check_goals
from optimize.jobs import Done, Job, Jobs, open_jobs
from optimize.machine import this_machine
from optimize.measure import Measured
from optimize.measuring import read_measured
from optimize.page import as_html
from optimize.progress import Progress
from optimize.publish import next_version, republish
from optimize.recipe import Recipe
from optimize.report import Report, Row, as_json
from optimize.rooms import SIGNATURE, graph_folder
from optimize.steps import Chain
from optimize.table import as_text

TARGETS = ("onnxruntime", "openvino", "tensorrt", "aot", "aot-cuda")
_ELSEWHERE = (
    "; for a GPU elsewhere: --steps 'int8-static(symmetric=True)' for onnxruntime, which judges its "
    "accuracy, then headrace publish NAME/VERSION --engine tensorrt, and headrace plan"
)
_WORK = ".optimize"
_LEFT_BEHIND = re.compile(r"\.[A-Za-z0-9_.-]+-[a-z0-9_]{8}")  # what a killed publisher leaves


@dataclass(frozen=True, slots=True)
class Asked:
    """What a run was asked for."""

    goals: Goals
    chains: tuple[Chain, ...]  # empty: the usual ones
    targets: tuple[str, ...]
    version: str | None  # None: the next number

    @property
    def tried(self) -> tuple[Chain, ...]:
        return tuple(dict.fromkeys(chain for engine in self.targets for chain in self.tried_on(engine)))

    def tried_on(self, engine: str) -> tuple[Chain, ...]:
        return self.chains or (steps.COMPILED if engine in DEVICES else steps.DEFAULT)


def optimize(
    recipe: Recipe,
    out: Path,
    goals: Goals | None = None,
    progress: Progress | None = None,
    *,
    chains: Sequence[Chain] = (),
    targets: Sequence[str] = ("onnxruntime",),
    version: str | None = None,
    command: str | None = None,
    work: Path | None = None,
    timeout_s: float = 6 * 3600,
) -> Report:
    """Publish the recipe's model and its best version under `out`, which is REPOSITORY/NAME.

    What an interrupted run of the same recipe had done is taken over (`work`: REPOSITORY/.optimize/NAME
    unless given). A version whose files are in the repository already is used again. A step or an
    engine that fails is a row of the report.

    Raises GoalMissed, with the report as text, when no version is within the goals (only the original
    is published then); ConfigRejected when recipe, goals or steps are wrong; EngineFailed when the
    original cannot be run, or every candidate failed.
    """
    asked = Asked(goals or Goals(), tuple(map(steps.check_chain, chains)), _targets(targets), version)
    _check_sizes(asked)
    for step in (step for chain in asked.chains for step in chain):
        for function in step.needs:
            recipe.need(function, step.name)
    missing = _missing(asked.targets)
    repository, name = Repository(out.parent), _name(out)
    if version is not None and version in _versions(repository, name):
        raise ConfigRejected(
            f"version '{name}/{version}' exists, and a published version never changes; give another "
            f"--version, or none for the next number"
        )
    started = time.monotonic()
    try:
        with open_jobs(work or work_of(out), recipe, progress, timeout_s) as jobs:
            _sweep(out)
            run = _Run(jobs, repository, name, recipe, asked, missing)
            return run.all(started, command or command_of(recipe, out, asked))
    except RecipeWrong as err:
        raise ConfigRejected(str(err)) from err
    except OSError as err:
        raise EngineFailed(
            f"{err.strerror or err}: nothing half is left in the repository; mend that and start again, "
            f"what had ended is kept"
        ) from err


class _Run:
    """One run over a repository that it alone optimizes this model in."""

    def __init__(
        self,
        jobs: Jobs,
        repository: Repository,
        name: str,
        recipe: Recipe,
        asked: Asked,
        missing: Mapping[str, str],
    ) -> None:
        self._jobs = jobs
        self._repository = repository
        self._name = name
        self._recipe = recipe
        self._asked = asked
        self._missing = missing

    def all(self, started: float, command: str) -> Report:
        prepared = self._jobs.run(Job("prepare", "the recipe's model", is_kept=False))
        measured = self._jobs.run(Job("measure-original", "the original", {}, {"prepared": prepared}))
        before, session, toggles = read_measured(dict(measured.facts))
        check_goals(self._asked.goals, before)
        original = Row(
            name="fp32",
            steps=(),
            engine="onnxruntime",
            precision="fp32",
            status="original",
            session=session,
            measured=before,
            toggles=toggles,
        )
        first = self._publish(self._artifact(prepared, prepared, original), original, None)
        original = replace(original, version=first.manifest.version)
        flow = Flow(self._jobs, self._asked.goals, prepared, measured)
        candidates = list(self._candidates(flow))
        good = [found for found in candidates if found.row.status == "good" and found.row.measured]
        chosen = good[choose([_figures(found) for found in good])] if good else None
        rows = []
        last = self._artifact(chosen.made, prepared, chosen.row) if chosen and chosen.made else None
        version = self._version_of(last) if last else ""
        for found in candidates:
            is_chosen = found is chosen
            rows.append(replace(found.row, status="chosen", version=version) if is_chosen else found.row)
        report = Report(
            model=self._name,
            original=original,
            candidates=tuple(rows),
            goals=self._asked.goals,
            sensitivity=flow.sensitivity,
            machine=this_machine(),
            command=command,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - started, 1),
        )
        if last is None:
            raise _nothing_good(report)
        reports = {"report.json": as_json(report), "report.html": as_html(report).encode()}
        self._publish(last, report.after, first.manifest.version, version, reports, report.figures())
        return report

    def _candidates(self, flow: Flow) -> Iterable[Candidate]:
        limit = self._asked.goals.max_size
        seen: set[tuple[str, str]] = set()
        for engine in self._asked.targets:
            if engine in self._missing:
                yield Candidate(_skipped(engine, engine, self._missing[engine]))
                continue
            for chain in self._asked.tried_on(engine):
                if limit is not None and (least := least_size(chain)) > limit:
                    why = f"it stores {least:g} of the original's size at least; max_size asks for {limit:g}"
                    yield Candidate(_skipped(steps.named(chain), engine, why))
                    continue
                for found in flow.run(chain, engine):
                    if (found.row.name, engine) not in seen:  # chains may begin alike
                        seen.add((found.row.name, engine))
                        yield found

    def _artifact(self, made: Done, prepared: Done, row: Row) -> Artifact:
        """The graph that a job made, as it would be published."""
        signature: Signature = SIGNATURE.validate_python(prepared.facts["signature"], strict=False)
        return unpublished(
            graph_folder(made.folder),
            name=self._name,
            version="1",
            graph=made.facts["graph"],
            signature=signature,
            engine=row.engine,
            session=row.session,
            grouping=self._recipe.grouping,
            warm_up=tuple(prepared.facts["warm_up"]),
            precision=row.precision,
        )

    def _published(self, artifact: Artifact) -> Artifact | None:
        """The version of the repository that holds the same, however it is loaded."""
        for version in _versions(self._repository, self._name):
            found = self._repository.open(self._name, version)
            if _content(found) == _content(artifact):
                return found
        return None

    def _version_of(self, artifact: Artifact) -> str:
        found = self._published(artifact)
        if found is not None and self._asked.version is None:
            return found.manifest.version
        return self._asked.version or next_version(self._repository, self._name)

    def _publish(
        self,
        artifact: Artifact,
        row: Row,
        parent: str | None,
        version: str | None = None,
        reports: Mapping[str, bytes] | None = None,
        figures: Mapping[str, float] | None = None,
    ) -> Artifact:
        found = self._published(artifact)
        if found is not None and version in (None, found.manifest.version):
            return found
        manifest, measured = artifact.manifest, row.measured
        assert measured is not None  # only what was measured is published
        graph_files = {file: artifact.folder / file for file in manifest.graph_files()}
        return republish(
            self._repository,
            artifact,
            version or next_version(self._repository, self._name),
            {**graph_files, **(reports or {})},
            parent=parent,
            figures=figures or measured.figures(),
            latencies=_latencies(measured),
        )


def forget(out: Path) -> None:
    """Remove what earlier runs for this model had done, so that the next begins anew."""
    shutil.rmtree(work_of(out), ignore_errors=True)


def work_of(out: Path) -> Path:
    """Where runs for this model keep what they have done."""
    return out.parent / _WORK / _name(out)


def least_size(chain: Chain) -> float:
    """The least share of the original's size that a chain can end with."""
    size = 1.0
    for step in chain:
        size *= step.least_size
    return size


def command_of(recipe: Recipe, out: Path, asked: Asked) -> str:
    """The command line that does the same again."""
    if recipe.path is None:
        return "optimize.api.optimize(...)"
    parts = ["headrace", "optimize", _short(recipe.path), "--out", _short(out)]
    for name, value in asked.goals.asked().items():
        parts += ["--goal", f"{name}={value:g}"]
    for target in asked.targets if asked.targets != ("onnxruntime",) else ():
        parts += ["--target", target]
    for chain in asked.chains:
        parts += ["--steps", steps.written(chain)]
    return shlex.join(parts)


def _nothing_good(report: Report) -> HeadraceError:
    """The error for a run without a version to publish, by what became of the candidates."""
    statuses = {row.status for row in report.candidates}
    reasons = "; ".join(dict.fromkeys(f"{row.name}: {row.reason}" for row in report.candidates))
    if "missed" in statuses:
        return GoalMissed(
            f"no version of {report.model} reached its goals; none is published\n{as_text(report)}"
        )
    if "failed" in statuses:
        return EngineFailed(f"no version of {report.model} could be made: {reasons}")
    return ConfigRejected(f"no version of {report.model} could be made: {reasons}")


def _figures(candidate: Candidate) -> Measured:
    assert candidate.row.measured is not None  # only measured ones are good
    return candidate.row.measured


def _skipped(name: str, engine: str, reason: str) -> Row:
    return Row(name=name, steps=(), engine=engine, precision="", status="skipped", reason=reason)


def _latencies(measured: Measured) -> tuple[BatchLatency, ...]:
    return tuple(
        BatchLatency(
            batch=entry.batch,
            sizes=dict(entry.sizes),
            threads=entry.threads,
            median_ms=entry.median_ms,
            low_ms=entry.low_ms,
            high_ms=entry.high_ms,
        )
        for entry in measured.latencies
    )


def _content(artifact: Artifact) -> tuple[object, ...]:
    """What makes two versions the same, however they are loaded."""
    manifest = artifact.manifest
    told: dict[str, Any] = manifest.model_dump(include={"signature"})
    return (
        manifest.graph,
        manifest.graph_files(),
        told,
        manifest.grouping,
        manifest.precision,
        manifest.engine,
    )


def _versions(repository: Repository, name: str) -> list[str]:
    try:
        return repository.versions(name)
    except NotFound:
        return []


def _sweep(out: Path) -> None:
    """Remove what a killed run had begun to publish; nobody else optimizes this model now."""
    for path in out.iterdir() if out.is_dir() else ():
        if path.is_dir() and _LEFT_BEHIND.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)


def _targets(targets: Sequence[str]) -> tuple[str, ...]:
    for target in targets:
        if target not in TARGETS:
            raise ConfigRejected(f"target {target!r} is unknown; allowed: {', '.join(TARGETS)}")
    return tuple(dict.fromkeys(targets)) or ("onnxruntime",)


def _missing(targets: Sequence[str]) -> dict[str, str]:
    """Why targets cannot be used here; EngineFailed when none can."""
    tried = [target for target in targets if target != "onnxruntime"]
    found = {
        target: why for target in tried if (why := why_not(target) if target in DEVICES else probe(target))
    }
    if "tensorrt" in found:
        found["tensorrt"] += _ELSEWHERE
    if len(found) == len(targets):
        raise EngineFailed(
            f"no target can be used here: {'; '.join(f'{target}: {why}' for target, why in found.items())}"
        )
    return found


def _check_sizes(asked: Asked) -> None:
    limit = asked.goals.max_size
    smallest = min(asked.tried, key=lambda chain: least_size(chain))
    least = least_size(smallest)
    if limit is not None and least > limit:
        raise ConfigRejected(
            f"max_size={limit:g} contradicts the steps: {steps.named(smallest)} stores "
            f"{least:g} of the original's size at least; ask for a larger max_size, or add prune-channels or "
            f"distill before it"
        )


def _name(out: Path) -> str:
    try:
        name = check_name(out.name)
    except ValueError as err:
        raise ConfigRejected(f"the model's name is the last part of {out.name!r}: {err}") from err
    for folder in (out, out.parent):
        if folder.exists() and not folder.is_dir():
            raise ConfigRejected(
                f"--out: {folder.name!r} is a file; give REPOSITORY/NAME, folders that exist or can be made"
            )
    return name


def _short(path: Path) -> str:
    """Seen from here if it lies below: reports travel, and the folders above say too much."""
    here = Path.cwd()
    return str(path.resolve().relative_to(here)) if path.resolve().is_relative_to(here) else path.name
