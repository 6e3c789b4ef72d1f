"""Real engines in turns: two processes each, and figures of every shape."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil
import pytest

from benchmarks.baselines import COPY, MODEL, PRESENT, SLOWED, publish_builds
from engines.artifact import Repository
from headrace.errors import EngineFailed
from rollout.turns import Side, compare, measure_alone
from rollout.workload import Measure, Workload, workload
from tests.onnx_models import publish_all


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    return publish_builds(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def work(builds: Repository) -> Workload:
    return workload(builds.manifest(MODEL, PRESENT), [({}, 1)], 2)


def test_every_shape_and_batch_is_measured(tmp_path: Path) -> None:
    double = publish_all(tmp_path).open("double", "1")
    seen = [({"length": length}, 1) for length in (3, 300)]
    found = measure_alone(Side(double), workload(double.manifest, seen, 2), seconds=0.0)
    assert set(found.calls) == {
        Measure("p50", batch, (("length", length),)) for batch in (1, 2, 4, 8) for length in (3, 300)
    }
    assert all(calls_s for calls_s in found.calls.values())
    assert len(found.full) == 2
    assert all(ran.rows for ran in found.full)


def test_two_builds_that_are_the_same_are_no_regression(builds: Repository, work: Workload) -> None:
    sides = [Side(builds.open(MODEL, version)) for version in (PRESENT, COPY)]
    found = compare(sides[0], sides[1], work, seconds=10, tolerance=0.1, seed=1)
    assert "worse" not in {verdict.state for verdict in found.verdicts.values()}
    assert found.old.keys() == found.new.keys() == found.verdicts.keys()
    assert {measure.kind for measure in found.verdicts} >= {"p50", "throughput", "cost"}


def test_a_slower_build_is_found_twice_by_new_processes(builds: Repository, work: Workload) -> None:
    sides = [Side(builds.open(MODEL, version)) for version in (PRESENT, SLOWED)]
    found = compare(sides[0], sides[1], work, seconds=40, tolerance=0.1, seed=1)
    worse = {measure: verdict for measure, verdict in found.verdicts.items() if verdict.state == "worse"}
    assert {measure.kind for measure in worse} & {"p50", "least", "throughput", "cost"}
    assert all(verdict.ratio > 1.1 for verdict in worse.values())
    assert found.num_runs >= 2


def test_a_process_that_dies_is_told_and_leaves_none_behind(builds: Repository, work: Workload) -> None:
    me = psutil.Process()

    class Killer:
        """Ends one of the processes when the first round is over."""

        def add_task(self, description: str, *, total: float | None) -> int:
            return 0

        def update(self, task_id: int, *, total: float | None = None, advance: float | None = None) -> None:
            for child in me.children(recursive=True):
                if "optimize.instance" in child.cmdline():
                    child.send_signal(signal.SIGKILL)
                    break

    side = Side(builds.open(MODEL, PRESENT))
    with pytest.raises(EngineFailed, match="ended with signal SIGKILL"):
        compare(side, side, work, seconds=60, tolerance=0.01, progress=Killer())
    assert not [child for child in me.children(recursive=True) if "optimize.instance" in child.cmdline()]
