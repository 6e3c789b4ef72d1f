"""The figures of a server as one document: what the live page, `headrace top` and `GET /v2/figures` show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from headrace.sketch import Sketch
from monitoring.history import PERCENTILES, WINDOW_S, History, Point
from monitoring.slots import Answers, Batches, Named, Quality, Slot
from monitoring.stages import STAGES
from monitoring.told import Told, Versions, Waiting

Json = dict[str, Any]
_NAMES = tuple(f"p{share * 100:g}" for share in PERCENTILES)


def document(
    version: str, now: float, told: Sequence[Told], history: History, models: Mapping[str, Versions],
    problems: Sequence[str] = (),
) -> Json:  # fmt: skip
    """All that is known, in plain values; seconds, bytes, Unix time, and shares from 0 to 1."""
    whole, seconds = history.window()
    waiting = _waiting(told)
    return {
        "version": version,
        "now": now,
        "window_s": WINDOW_S,
        "gateways": sum(one.kind == "gateway" for one in told),
        "problems": list(problems),
        "errors": _unknown(whole),
        "models": [
            _model(name, known, whole, seconds, waiting, history) for name, known in sorted(models.items())
        ],
        "cache": _cache(told),
        "processes": [
            {"kind": one.kind, "id": one.id, "model": one.model, "version": one.version, **_process(one)}
            for one in told
        ],
    }


def _model(
    name: str, known: Versions, whole: Slot, seconds: float, waiting: Mapping[Named, Waiting],
    history: History,
) -> Json:  # fmt: skip
    seen = [version for model, version in whole.answers if model == name and version]
    named = [known.stable, known.candidate, *known.variants, *known.shares, *sorted({*known.named, *seen})]
    versions = list(dict.fromkeys(version for version in named if version))
    return {
        "name": name,
        "stable": known.stable,
        "former": known.former or None,
        "placement": known.placement,
        "rollout": known.rollout,
        "versions": [
            _version(name, version, known, whole, seconds, waiting.get((name, version)))
            for version in versions
        ],
        "series": {
            "time": [points.start for points in history.points()],
            "versions": {
                version: _series(
                    [points.versions.get((name, version)) for points in history.points()],
                    [points.waiting.get((name, version), 0) for points in history.points()],
                )
                for version in versions
            },
        },
    }


def _version(
    name: str, version: str, known: Versions, whole: Slot, seconds: float, waiting: Waiting | None
) -> Json:
    answers = whole.answers.get((name, version)) or Answers()
    groups = {group: one for (*named, group), one in whole.batches.items() if named == [name, version]}
    replicas = known.replicas.get(version)
    return {
        "version": version,
        "role": known.role(version),
        "share": known.shares.get(version, 0.0),
        "requests_per_s": answers.count / seconds,
        "rows_per_s": answers.rows / seconds,
        "errors_per_s": answers.errors.total() / seconds,
        "errors": dict(answers.errors),
        "latency_s": percentiles(answers.latency) if answers.count else None,
        "stages": _stages(answers) if answers.count else [],
        "tiers": dict(answers.tiers),
        "saved_s": answers.saved_s,
        **_quality(whole.quality.get((name, version)) or Quality()),
        "waiting_rows": waiting.rows if waiting else 0,
        "oldest_s": waiting.oldest_s if waiting else 0.0,
        "batches": [{"group": group, **_batches(one)} for group, one in sorted(groups.items())],
        "replicas": None if replicas is None else asdict(replicas),
        "report": version in known.reports,
    }


def percentiles(sketch: Sketch) -> Json:
    """P50, P95 and P99, each within 1% of the exact one; of nothing all are 0."""
    found = map(sketch.quantile, PERCENTILES) if sketch.bins else (0.0,) * len(PERCENTILES)
    return dict(zip(_NAMES, found, strict=True))


def _stages(answers: Answers) -> list[Json]:
    return [
        {"stage": stage, "mean": spent_s / answers.count, **percentiles(sketch)}
        for stage, spent_s, sketch in zip(STAGES, answers.spent_s, answers.stages, strict=True)
    ]


def _quality(quality: Quality) -> Json:
    accuracy = {"right": quality.right / quality.judged, "judged": quality.judged} if quality.judged else None
    if not quality.compared:
        return {"accuracy": accuracy, "drift": None}
    flipped = quality.flipped / quality.compared
    drift = {"compared": quality.compared, "differing": quality.differing, "flipped": flipped}
    return {"accuracy": accuracy, "drift": drift}


def _batches(one: Batches) -> Json:
    return {
        "batches": one.count,
        "rows": one.rows / one.count,
        "fill": one.useful / one.elements if one.elements else 1.0,
        "engine_s": one.engine_s / one.count,
        "wait_s": one.wait_s / one.count,
    }


def _series(points: Sequence[Point | None], waiting: Sequence[int]) -> Json:
    latencies = [None if point is None else point.latency_s for point in points]
    return {
        **{
            name: [None if latency is None else latency[at] for latency in latencies]
            for at, name in enumerate(_NAMES)
        },
        "requests_per_s": [0.0 if point is None else point.requests_per_s for point in points],
        "errors_per_s": [0.0 if point is None else point.errors_per_s for point in points],
        "waiting_rows": list(waiting),
    }


def _unknown(whole: Slot) -> dict[str, int]:
    """Of requests for no version that there is, by kind."""
    found: Counter[str] = Counter()
    for (_, version), answers in whole.answers.items():
        if not version:
            found.update(answers.errors)
    return dict(found)


def _waiting(told: Sequence[Told]) -> dict[Named, Waiting]:
    """Of each version: what waits in all processes."""
    found: dict[Named, Waiting] = {}
    for one in told:
        for named, its in one.waiting.items():
            known = found.get(named, Waiting(0, 0.0))
            found[named] = Waiting(known.rows + its.rows, max(known.oldest_s, its.oldest_s))
    return found


def _cache(told: Sequence[Told]) -> Json:
    caches = [one.cache for one in told if one.cache is not None]
    shared = next((cache["shared"] for cache in caches if cache["shared"] is not None), None)
    together = {key: sum(cache[key] for cache in caches) for key in ("answers", "bytes", "max_bytes")}
    return {"shared": shared, **together}


def _process(one: Told) -> Json:
    process = asdict(one.process)
    return {**process, "gpus": list(process["gpus"])}
