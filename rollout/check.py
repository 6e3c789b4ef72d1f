"""`baseline record` and `baseline check` as functions: what they measure, and what they say of it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Literal

import numpy as np

from batching.learn import Seen
from engines.artifact import Artifact, Repository
from engines.cpu import cpu_cores
from engines.load import load
from headrace.errors import CallerError, ConfigRejected
from optimize.demand import known_shapes
from optimize.measure import accuracy
from optimize.progress import Line, Progress
from optimize.recipe import Recipe
from rollout.baseline import Accuracy, Baseline, Latency, Throughput, choose_old, dump, read_baseline
from rollout.fingerprint import differences, fingerprint, fingerprint_of
from rollout.store import Store, stable_of
from rollout.turns import Compared, Side, Timings, compare, measure_alone
from rollout.workload import Kind, Measure, Workload, workload

SECONDS = 30.0
TOLERANCE = 0.1
MAX_DROP = 0.01

_ROUNDING = 1e-9  # of a difference of two accuracies
_UNITS = {"p50": "ms", "p95": "ms", "throughput": "rows/s", "cost": "CPU s/1,000 rows"}

State = Literal["ok", "worse", "unsure", "unknown"]


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of both versions. `change` is new to old, or the difference where it is an accuracy."""

    kind: Kind | Literal["size", "accuracy"]
    name: str
    unit: str
    old: float | None
    new: float | None
    change: float | None
    state: State
    recorded: float | None = None  # of the old version, on this machine as it is
    num_pairs: int = 0


@dataclass(frozen=True, slots=True)
class Check:
    """What came of a comparison; `rows` are in the order of the table."""

    model: str
    old: str
    new: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    tolerance: float
    max_drop: float
    num_runs: int

    @property
    def regressions(self) -> list[Row]:
        return [row for row in self.rows if row.state == "worse"]

    @property
    def unsure(self) -> list[Row]:
        """Those that more time would make clear; a P95 is not waited for."""
        return [row for row in self.rows if row.state == "unsure" and row.kind != "p95"]


def answering(repository: Repository, model: str) -> str:
    """The version that answers: the stable one of rollout.json, else the newest. NotFound as `versions`."""
    return stable_of(Store(repository.root), model, repository.versions(model)[-1])[0]


def record(
    repository: Repository,
    model: str,
    version: str,
    *,
    seconds: float,
    seen: Sequence[Seen] = (),
    recipe: Recipe | None = None,
    progress: Progress | None = None,
) -> Baseline:
    """Measure a version on this machine and keep the figures with it.

    With a recipe its accuracy is measured, else it is what the manifest tells. `seen` are shapes of
    requests; without any, those that the version was measured and is warmed up with. ConfigRejected when
    there are none of these either.
    """
    artifact = repository.open(model, version)
    work = workload(artifact.manifest, seen or known_shapes(artifact.manifest), cpu_cores())
    timings = measure_alone(Side(artifact), work, seconds, progress)
    baseline = _baseline(artifact, work, timings, _accuracy(artifact, recipe, progress))
    repository.set_baseline(artifact, dump(baseline))
    return baseline


def check(
    repository: Repository,
    model: str,
    version: str,
    *,
    against: str | None = None,
    seconds: float = SECONDS,
    tolerance: float = TOLERANCE,
    max_drop: float = MAX_DROP,
    seen: Sequence[Seen] = (),
    recipe: Recipe | None = None,
    python: Path | None = None,
    progress: Progress | None = None,
    seed: int | None = None,
) -> Check:
    """Compare a version with an older one, both measured in turns on this machine.

    `against` names the old one; else `choose_old` tells. `python` is the interpreter of another environment
    that the new one runs in; the two may then be the same version. Both run in the set-up of the new one.
    CallerError when there is nothing to compare with, or the two take other inputs; ArtifactRejected for a
    damaged baseline.
    """
    if python is not None and recipe is not None:
        raise ConfigRejected("a recipe is run in this environment alone; leave out --recipe, or --python")
    new = repository.open(model, version)
    old = repository.open(model, against or _old_version(repository, new))
    if old.manifest.signature != new.manifest.signature:
        raise CallerError(
            f"versions {old.manifest.version!r} and {version!r} of {model!r} have different signatures, so "
            "no request fits both; compare it with a version of its own signature by --against"
        )
    baseline = read_baseline(repository, old)
    shapes = seen or _shapes(new, old, baseline)
    work = workload(new.manifest, shapes, cpu_cores())
    found = compare(
        Side(old), Side(new, python), work, seconds=seconds, tolerance=tolerance, progress=progress, seed=seed
    )
    notes, recorded = _recorded(baseline, old, work)
    if python is not None:
        notes += [
            f"environment of the new one: {told}"
            for told in differences(fingerprint(), fingerprint_of(python))
        ]
    before, after = (_known_accuracy(repository, artifact, recipe, progress) for artifact in (old, new))
    rows = [
        *_speed_rows(found, recorded),
        _size_row(old, new, tolerance),
        _accuracy_row(before, after, max_drop),
    ]
    return Check(
        model, old.manifest.version, version, tuple(rows), tuple(notes), tolerance, max_drop, found.num_runs
    )


def _old_version(repository: Repository, new: Artifact) -> str:
    model = new.manifest.name
    recorded = [
        version for version in repository.versions(model) if repository.baseline(model, version) is not None
    ]
    return choose_old(
        new.manifest.version, answering(repository, model), new.manifest.parent, recorded, model
    )


def _shapes(new: Artifact, old: Artifact, baseline: Baseline | None) -> list[Seen]:
    """Those that either version knows of: a version that was published as it is knows none."""
    try:
        return known_shapes(new.manifest)
    except ConfigRejected:
        if baseline is not None:
            return [
                (dict(shape), 1) for shape in {tuple(entry.sizes.items()): 0 for entry in baseline.latencies}
            ]
        return known_shapes(old.manifest)


def _baseline(artifact: Artifact, work: Workload, timings: Timings, known: Accuracy | None) -> Baseline:
    manifest, full = artifact.manifest, timings.full
    latencies = tuple(
        Latency(
            batch=measure.batch,
            sizes=dict(measure.sizes),
            median_ms=median(calls_s) * 1000,
            p95_ms=float(np.percentile(calls_s, 95)) * 1000,
            calls=len(calls_s),
        )
        for measure, calls_s in timings.calls.items()
    )
    rows_per_s = median(ran.rows / ran.seconds for ran in full)
    throughput = Throughput(
        rows_per_s=rows_per_s,
        mean_batch=sum(ran.rows for ran in full) / sum(ran.batches for ran in full),
        grouping=work.order.batching["grouping"],
        max_batch=work.order.batching["max_batch"],
        engine_s_per_1000=1000 / rows_per_s,
        cpu_s_per_1000=median(ran.cpu_s / ran.rows for ran in full) * 1000,
    )
    return Baseline(
        model=manifest.name,
        version=manifest.version,
        digest=artifact.digest,
        recorded=datetime.now(UTC).isoformat(timespec="seconds"),
        fingerprint=fingerprint(),
        threads=work.threads,
        latencies=latencies,
        throughput=throughput,
        size_bytes=manifest.size_bytes(),
        accuracy=known,
    )


def _accuracy(artifact: Artifact, recipe: Recipe | None, progress: Progress | None) -> Accuracy | None:
    """By the recipe if there is one, else as the manifest tells."""
    if recipe is not None:
        with closing(load(artifact, threads=1)) as engine:
            line = Line(progress, f"accuracy of version {artifact.manifest.version}")
            return Accuracy(value=accuracy(engine, recipe, line), source="recipe")
    told = artifact.manifest.figures.get("accuracy")
    return None if told is None else Accuracy(value=told, source="manifest")


def _known_accuracy(
    repository: Repository, artifact: Artifact, recipe: Recipe | None, progress: Progress | None
) -> float | None:
    """What a recipe measures now, else what it measured for the baseline, else what the manifest tells."""
    baseline = None if recipe is not None else read_baseline(repository, artifact)
    known = baseline.accuracy if baseline is not None else None
    found = known or _accuracy(artifact, recipe, progress)
    return None if found is None else found.value


def _recorded(
    baseline: Baseline | None, old: Artifact, work: Workload
) -> tuple[list[str], dict[Measure, float]]:
    """Figures of the baseline by measure, and why there are none."""
    version = old.manifest.version
    if baseline is None:
        return [f"version {version} has no baseline: record one to see what has changed since"], {}
    changed = differences(baseline.fingerprint, fingerprint())
    if baseline.threads != work.threads:
        changed.append(f"threads were {baseline.threads}, now {work.threads}")
    if changed:
        return [f"figures recorded of version {version} are not comparable: {'; '.join(changed)}"], {}
    found: dict[Measure, float] = {}
    for entry in baseline.latencies:
        sizes = tuple(entry.sizes.items())
        found[Measure("p50", entry.batch, sizes)] = entry.median_ms
        found[Measure("p95", entry.batch, sizes)] = entry.p95_ms
    found[Measure("throughput")] = baseline.throughput.rows_per_s
    found[Measure("cost")] = baseline.throughput.cpu_s_per_1000
    return [f"recorded of version {version} on {baseline.recorded[:10]}, told for comparison only"], found


def _speed_rows(found: Compared, recorded: dict[Measure, float]) -> list[Row]:
    rows = []
    for measure, verdict in found.verdicts.items():
        old, new = (_shown(measure, side[measure]) for side in (found.old, found.new))
        change = 1 / verdict.ratio if measure.kind == "throughput" else verdict.ratio
        rows.append(
            Row(
                measure.kind,
                str(measure),
                _UNITS[measure.kind],
                old,
                new,
                change,
                verdict.state,
                recorded.get(measure),
                verdict.num_pairs,
            )
        )
    return rows


def _shown(measure: Measure, seconds: float) -> float:
    return 1 / seconds if measure.kind == "throughput" else seconds * 1000


def _size_row(old: Artifact, new: Artifact, tolerance: float) -> Row:
    before, after = (float(side.manifest.size_bytes()) for side in (old, new))
    state: State = "worse" if after > before * (1 + tolerance) else "ok"
    return Row("size", "size", "MB", before / 1e6, after / 1e6, after / before if before else 1.0, state)


def _accuracy_row(old: float | None, new: float | None, max_drop: float) -> Row:
    if old is None or new is None:
        return Row("accuracy", "accuracy", "", old, new, None, "unknown")
    state: State = "worse" if old - new > max_drop + _ROUNDING else "ok"
    return Row("accuracy", "accuracy", "", old, new, new - old, state)
