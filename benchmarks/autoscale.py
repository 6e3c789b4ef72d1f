"""Replicas by queue depth: a step of the load against Serve's own policy, and what more replicas give."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import nodes, serve_policy, step
from benchmarks.figures import Figure, arguments, finish
from benchmarks.step import HOST, MAX_REPLICAS, PER_REPLICA, Profile, Run
from deployments.load import closed_loop
from deployments.serving import serving

PARTS = ("step", "linear", "nodes", "manifests")
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
    if "nodes" in parts:
        figures += nodes.figures(1 if options.quick else 10)
    if "manifests" in parts:
        figures += _manifests()
    return finish(figures, options.json, details)


def _step(folder: Path, is_quick: bool, details: dict[str, Any]) -> Iterator[Figure]:
    scale = 0.2 if is_quick else 1.0
    warm_s, high_s, after_s = WARM_S * scale, HIGH_S * scale, AFTER_S * scale
    profile = Profile(((LOW, warm_s), (8 * LOW, high_s), (LOW, after_s)))
    end = warm_s + high_s
    start_s = step.start_s(folder)
    ours = step.run(folder, profile)
    default = step.run(folder, profile, serve_policy.config(MAX_REPLICAS))
    tuned = step.run(folder, profile, serve_policy.config(MAX_REPLICAS, **TUNED))
    runs = {"ours": ours, "Serve's, as it comes": default, "Serve's, set for this model": tuned}
    details["runs"] = {name: _told(run) for name, run in runs.items()}
    full = ours.full_at(warm_s, end)
    yield Figure("seven replicas started at once by themselves", start_s, "s")
    yield Figure("the first more asked for, after the step", ours.raised_at(warm_s) - warm_s, "s")
    yield Figure("all of them run, after the step", full - warm_s, "s", f"<= {6 + start_s:.4g}")
    yield Figure("P99 under the objective, after that", ours.calm_at(full, end) - full, "s", "<= 10")
    for name, run in runs.items():
        yield Figure(f"{name}: objective missed", run.outcome.misses, f"of {len(run.outcome.latency)}")
        yield Figure(f"{name}: replica-seconds", run.outcome.replica_s, "s")
        yield Figure(f"{name}: P99 of the client's own delay", run.replayed.load.late_ms(99), "ms")
    misses = max(1, ours.outcome.misses)
    for name, run in (("as it comes", default), ("set for this model", tuned)):
        is_bound = run is default
        more = run.outcome.misses / misses
        yield Figure(f"misses of Serve's, {name} / ours", more, "", ">= 3" if is_bound else "")
        dearer = ours.outcome.replica_s / run.outcome.replica_s
        yield Figure(f"replica-seconds of ours / Serve's, {name}", dearer, "", "<= 1.1" if is_bound else "")
    yield Figure("failed", sum(run.outcome.refused for run in runs.values()), "requests", "== 0")


def _told(run: Run) -> dict[str, Any]:
    return {
        "figures": run.outcome.figures(),
        "replicas": list(run.outcome.targets),
        "seconds": [[seen.arrivals, seen.running, seen.starting, seen.p99_s] for seen in run.outcome.seconds],
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


def _manifests() -> Iterator[Figure]:
    """The committed ones: schemas, KubeRay's fields, checkov, and what Serve makes of the configuration."""
    command = [sys.executable, "-m", "pytest", "-q", "tests/deployments/k8s", "tests/test_dockerfile.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (\w+)", done.stdout.splitlines()[-1])}
    yield Figure("checks of the manifests passed", counts.get("passed", 0), "checks", ">= 1")
    failed = sum(counts.get(word, 0) for word in ("failed", "error", "errors", "skipped"))
    yield Figure("failed or skipped", failed, "checks", "== 0")


if __name__ == "__main__":
    sys.exit(main())
