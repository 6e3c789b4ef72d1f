"""What a simulation is about: from a configuration and a manifest, or from what is given by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from autoscaling.policy import Goals
from autoscaling.traffic import Served
from deployments.autoscale import goals_of, interval_s
from engines.artifact import Repository
from engines.manifest import Manifest
from headrace.config import AutoscalingConfig, Config, load_config
from headrace.errors import CallerError, ConfigRejected

_MOST = 10  # replicas, where nobody tells

Table = tuple[tuple[int, float], ...]  # (rows, seconds) of batches


@dataclass(frozen=True, slots=True)
class Subject:
    """What is served, and what is wanted of it."""

    name: str
    served: Served
    goals: Goals


def by_hand(batch_s: Table, given: Mapping[str, Any], changes: Mapping[str, Any]) -> Subject:
    """A model that is not there yet. `given` is autoscaling's, `changes` are those of `Served`."""
    goals = _goals({"max_replicas": _MOST} | _known(given))
    return Subject("a model", Served(batch_s, report_s=interval_s(goals.max_replicas), **changes), goals)


def configured(
    path: Path, model: str | None, batch_s: Table, given: Mapping[str, Any], changes: Mapping[str, Any]
) -> Subject:
    """A model of a configuration, as `headrace serve` would run it; what is given by hand comes first."""
    from deployments.app import pinned, setups

    config = load_config(path)
    name = _chosen(config, model)
    config = pinned(config)
    entry = config.models[name]
    version = entry.versions[-1]
    setup = setups(config)[name][version]
    manifest = Repository(Path(config.repository)).manifest(name, version)
    scaling = {"max_replicas": _MOST} if entry.autoscaling is None else entry.autoscaling.model_dump()
    served = Served(
        batch_s or _measured(manifest, setup.threads),
        max_batch=setup.batching.max_batch,
        permits=setup.batching.permits,
        gateways=config.gateways,
        max_queue=entry.batching.max_queue,
        timeout_s=None if entry.timeout_ms is None else entry.timeout_ms / 1000,
    )
    goals = _goals(scaling | _known(given))
    served = replace(served, report_s=interval_s(goals.max_replicas), **changes)
    return Subject(f"{name}/{version}", served, goals)


def parse_batches(text: str) -> Table:
    """ROWS:MS,ROWS:MS,... as (rows, seconds); ConfigRejected says which part is wrong."""
    found: dict[int, float] = {}
    for part in text.split(","):
        rows, _, ms = part.partition(":")
        try:
            found[int(rows)] = float(ms) / 1000
        except ValueError as err:
            raise ConfigRejected(f"--batch-ms: {part!r} is not ROWS:MS, as in 1:56,8:100") from err
    return tuple(sorted(found.items()))


def parse_seconds(text: str) -> tuple[float, ...]:
    """Numbers with commas between them; ConfigRejected says which is none."""
    found = []
    for part in text.split(","):
        try:
            found.append(float(part))
        except ValueError as err:
            raise ConfigRejected(f"--start-s: {part!r} is no number of seconds") from err
    return tuple(found)


def _chosen(config: Config, model: str | None) -> str:
    scaled = [name for name, entry in config.models.items() if entry.autoscaling is not None]
    if model is None:
        names = scaled or list(config.models)
        if len(names) > 1:
            raise CallerError(f"which model? --model takes one of: {', '.join(names)}")
        return names[0]
    if model not in config.models:
        near = get_close_matches(model, config.models, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        known = ", ".join(config.models)
        raise CallerError(f"no model {model!r} in the configuration; there are: {known}{hint}")
    return model


def _measured(manifest: Manifest, threads: int) -> Table:
    """Of the shape in the middle, when batches of several were measured."""
    by_shape: dict[tuple[tuple[str, int], ...], dict[int, float]] = {}
    for entry in manifest.latencies:
        if entry.threads == threads:
            shape = tuple(sorted(entry.sizes.items()))
            by_shape.setdefault(shape, {})[entry.batch] = entry.median_ms / 1000
    if not by_shape:
        raise CallerError(
            f"nobody has measured batches of {manifest.name}/{manifest.version} with {threads} thread"
            f"{'s' if threads > 1 else ''}: give --batch-ms 1:56,8:100"
        )
    middle = sorted(by_shape, key=lambda shape: [size for _, size in shape])[len(by_shape) // 2]
    return tuple(sorted(by_shape[middle].items()))


def _known(given: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in given.items() if value is not None}


def _goals(document: Mapping[str, Any]) -> Goals:
    try:
        return goals_of(AutoscalingConfig.model_validate(document))
    except ValidationError as err:
        problem = err.errors()[0]
        name = "--" + "-".join(str(part) for part in problem["loc"]).replace("_", "-") + ": "
        told = str(problem.get("ctx", {}).get("error", f"{problem['msg']}; got {problem['input']!r}"))
        raise ConfigRejected(told if name == "--: " else name + told) from err
