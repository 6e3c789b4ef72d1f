"""An engine in a process of its own does what it is told, and says what came of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from engines.artifact import Artifact
from headrace.errors import EngineFailed, HeadraceError
from optimize.instance import Calls, Instance, Order
from tests.onnx_models import publish_all

ORDER = Order(1, {"grouping": "exact", "max_batch": 4}, [{"length": 3}], 8, 0.0)


@pytest.fixture
def double(tmp_path: Path) -> Artifact:
    return publish_all(tmp_path).open("double", "1")


def test_whole_batches_are_timed_for_as_long_as_is_asked(double: Artifact) -> None:
    with Instance(double) as engine:
        calls_s = engine.time(
            Calls(1, {"length": 100_000}, 8, 0.2)
        ).calls_s  # far fewer than the most of a turn
        assert len(calls_s) > 10
        assert 0.05 < sum(calls_s) < 5
        assert all(took_s > 0 for took_s in calls_s)
        assert len(engine.time(Calls(1, {"length": 3}, 1, 0.0)).calls_s) == 1


def test_a_full_queue_runs_for_as_long_as_is_asked_and_tells_its_cpu_time(double: Artifact) -> None:
    with Instance(double) as engine:
        engine.run(ORDER, 0.0)  # loads it
        ran = engine.run(ORDER, 0.05)
        assert ran.rows == 4 * ran.batches > 0
        assert ran.seconds >= 0.04
        assert 0 < ran.cpu_s < 5


def test_an_interpreter_by_its_path_runs_the_same(double: Artifact) -> None:
    with Instance(double, Path(sys.executable)) as engine:
        assert engine.time(Calls(1, {"length": 3}, 1, 0.0)).calls_s


def test_an_interpreter_that_ends_is_told_with_what_it_said(double: Artifact, tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho nothing is installed here >&2; exit 3\n")
    broken.chmod(0o755)
    with (
        Instance(double, broken) as engine,
        pytest.raises(EngineFailed, match="status 3: nothing is installed"),
    ):
        engine.time(Calls(1, {"length": 3}, 1, 0.0))


def test_a_model_that_cannot_run_the_shape_is_told(tmp_path: Path) -> None:
    lookup = publish_all(tmp_path).open("lookup", "1")
    graph = lookup.graph_path
    graph.write_bytes(graph.read_bytes() + b"\0")
    with Instance(lookup) as engine, pytest.raises(HeadraceError, match=r"model\.onnx"):
        engine.time(Calls(1, {"length": 3}, 1, 0.0))
