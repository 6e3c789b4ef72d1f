"""Replicas by queue depth: a step of the load against Serve's own policy, and what more replicas give."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import serve_policy, step
from benchmarks.figures import Figure, arguments, finish
from benchmarks.step import HOST, MAX_REPLICAS, PER_REPLICA, Profile, Run
from deployments.load import closed_loop
from deployments.serving import serving

PARTS = ("step", "linear")
LOW = 0.45 * PER_REPLICA
WARM_S, HIGH_S, AFTER_S = 60.0, 90.0, 150.0  # Serve counts the first half minute towards its delay
COUNTS = (1, 2, 4, 8)
CLIENTS = 24  # for each replica: three batches
LINEAR_S = 12.0
TURNS = 3
# What somebody would set who knows the model: a batch for each replica, no delay on the way up.
TUNED: dict[str, Any] = {
    "target": 0.75 * step.MAX_BATCH,
    "upscale_delay_s": 0.0,
    "downscale_delay_s": 60.0,
    "look_back_period_s": 5.0,
    "metrics_interval_s": 1.0,
}


def main() -> int:
    options = arguments(__doc__, PARTS)
    parts = options.only or PARTS
    figures: list[Figure] = []
    details: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        step.published(Path(folder))
        if "step" in parts:
            figures += _step(Path(folder), options.quick, details)
        if "linear" in parts:
            figures += _linear(Path(folder), options.quick)
    return finish(figures, options.json, details)


def _step(folder: Path, is_quick: bool, details: dict[str, Any]) -> Iterator[Figure]:
    scale = 0.2 if is_quick else 1.0
    warm_s, high_s, after_s = WARM_S * scale, HIGH_S * scale, AFTER_S * scale
    profile = Profile(((LOW, warm_s), (8 * LOW, high_s), (LOW, after_s)))
    end = warm_s + high_s
    ours = step.run(folder, profile)
    default = step.run(folder, profile, serve_policy.config(MAX_REPLICAS))
    tuned = step.run(folder, profile, serve_policy.config(MAX_REPLICAS, **TUNED))
    runs = {"ours": ours, "Serve's, as it comes": default, "Serve's, set for this model": tuned}
    details["runs"] = {name: _told(run) for name, run in runs.items()}
    full, ordered = ours.full_at(warm_s, end), ours.ordered_at(warm_s, end)
    yield Figure("the last of the replicas asked for, after the step", ordered - warm_s, "s", "<= 6")
    yield Figure("until they ran, from then on", full - ordered, "s")
    yield Figure("all of them run, after the step", full - warm_s, "s")
    calm = ours.calm_at(warm_s, end)
    yield Figure("P99 under the objective, after all ran", calm - full, "s", "<= 10")
    for name, run in runs.items():
        yield Figure(f"{name}: objective missed", run.misses, f"of {len(run.load.status)}")
        yield Figure(f"{name}: replica-seconds", run.replica_s, "s")
    yield Figure("misses of Serve's as it comes / ours", default.misses / max(1, ours.misses), "", ">= 3")
    yield Figure(
        "replica-seconds of ours / Serve's as it comes", ours.replica_s / default.replica_s, "", "<= 1.1"
    )
    yield Figure("misses of Serve's, set / ours", tuned.misses / max(1, ours.misses), "")
    yield Figure("replica-seconds of ours / Serve's, set", ours.replica_s / tuned.replica_s, "")
    yield Figure("failed", sum(run.load.num_failed for run in runs.values()), "requests", "== 0")


def _told(run: Run) -> dict[str, Any]:
    changes = [
        moment
        for before, moment in zip([None, *run.seen], run.seen, strict=False)
        if before is None or (before.running, before.here) != (moment.running, moment.here)
    ]
    return {
        "late_ms_p99": run.load.late_ms(99),
        "replicas": [[round(seen.at, 1), seen.running, seen.here] for seen in changes],
    }


def _linear(folder: Path, is_quick: bool) -> Iterator[Figure]:
    """Fixed numbers of replicas, each asked for more than it can do."""
    seconds = 2.0 if is_quick else LINEAR_S
    counts = COUNTS[:2] if is_quick else COUNTS
    found: dict[int, list[float]] = {count: [] for count in counts}
    config = step.configuration(folder, replicas=max(counts))
    with serving(config) as server:
        for _ in range(1 if is_quick else TURNS):
            for count in counts:
                entry = config.models[step.MODEL].model_copy(update={"replicas": count})
                server.update(config.model_copy(update={"models": {step.MODEL: entry}}))
                requests = [step.request()] * int(count * PER_REPLICA * seconds)
                load = asyncio.run(closed_loop(HOST, config.http.port, requests, count * CLIENTS))
                assert load.num_failed == 0
                found[count].append(load.per_second)
    alone = median(found[1])
    for count, rates in found.items():
        yield Figure(f"{count} replicas", median(rates), "requests/s")
        if count > 1:
            yield Figure(f"{count} replicas / {count} times one", median(rates) / count / alone, "", ">= 0.9")


if __name__ == "__main__":
    sys.exit(main())
