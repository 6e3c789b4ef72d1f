"""An optimize run that is killed again and again: each time it is started once more, it must end at the same
digests. Every kill is a SIGKILL of the whole run at a random moment."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import Progress

from engines.artifact import Repository
from headrace.errors import NotFound

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ROOT / "benchmarks" / "small_recipe.py"
CHAIN = "prune-weights(sparsity=0.5, rounds=2) > int8-static"
# With it one version is left to choose: two that are as fast as each other may be chosen either way by noise.
GOAL = "max_size=0.3"
_MODEL = "small"


@dataclass(frozen=True, slots=True)
class Kills:
    kills: int
    runs: int  # that were left to end, each after one or more kills
    other_digests: int  # runs that ended elsewhere than the one that nobody killed
    left_over: int  # files beside the published versions


def measure(folder: Path, kills: int, progress: Progress) -> Kills:
    """Kill `kills` times, in runs of up to 15 kills each before they are left to end.

    Moments are drawn from the first third of a whole run's time, since a run goes on where it was.
    """
    random = np.random.default_rng(0)
    started = time.monotonic()
    expected = _digests(_finish(folder / "whole"))
    takes = time.monotonic() - started
    done = runs = others = left = 0
    task = progress.add_task("killing an optimize run and starting it again", total=kills)
    while done < kills:
        place = folder / f"cut-{runs}"
        for _ in range(min(int(random.integers(1, 16)), kills - done)):
            if _kill_after(place, float(random.uniform(0.01, 0.33)) * takes):
                done += 1
                progress.update(task, advance=1)
        found = _digests(_finish(place))
        runs += 1
        others += found != expected
        left += sum(path.name.startswith(".") for path in (place / _MODEL).iterdir())
    return Kills(done, runs, others, left)


def _start(place: Path) -> subprocess.Popen[bytes]:
    place.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "deployments.cli", "optimize", str(RECIPE)]
    command += ["--out", str(place / _MODEL), "--steps", CHAIN, "--goal", GOAL]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _finish(place: Path) -> Path:
    with _start(place) as run:
        if run.wait(600) != 0:
            raise SystemExit("an optimize run failed; the figures would mean nothing")
    return place


def _kill_after(place: Path, seconds: float) -> bool:
    """False when the run had ended before."""
    with _start(place) as run:
        try:
            run.wait(seconds)
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGKILL)
            run.wait()
            return True
    return False


def _digests(place: Path) -> list[str]:
    repository = Repository(place)
    try:
        return [repository.open(_MODEL, version).digest for version in repository.versions(_MODEL)]
    except NotFound:
        return []
