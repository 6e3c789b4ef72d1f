"""A comparison takes what runs here, at its best, and believes no wrong answers."""

from __future__ import annotations

import pytest
from rich.progress import Progress

from benchmarks.compare import Measured, Plan, compare, figures, show
from benchmarks.servers.base import Setup, Task
from tests.benchmarks.conftest import SETUPS, Small

PLAN = Plan(repeats=2, requests=80, tuning=40, warm=32)


def test_set_ups_that_do_not_run_are_left_out_and_the_best_is_measured(
    task: Task, small: Small, capsys: pytest.CaptureFixture[str]
) -> None:
    results, same_rate = compare(task, [small()], PLAN, Progress(disable=True), with_ceiling=False)
    assert same_rate > 0
    assert [(result.name, result.setup) for result in results] == [("small", SETUPS[0])]
    (result,) = results
    measured = (result.rates, result.p99s, result.open_p99s, result.same_p99s)
    assert [len(values) for values in measured] == [PLAN.repeats] * len(measured)
    assert result.open_failed == [0, 0]
    assert "batches of 16, is left out" in capsys.readouterr().err
    show("a test", results, same_rate)
    told = capsys.readouterr().out
    assert "1 x 1 threads, no batching" in told
    assert f"{same_rate:.0f}/s, P50 ms" in told


def test_wrong_answers_end_it(task: Task, small: Small) -> None:
    with pytest.raises(SystemExit, match="32 of 32 answers are not the engine's"):
        compare(task, [small(offset=1.0)], PLAN, Progress(disable=True), with_ceiling=False)


def test_ratios_are_told_of_what_was_measured() -> None:
    results = [Measured(name, name, Setup(1, 2, 1), rates=rates) for name, rates in RATES.items()]
    told = {figure.name: figure for figure in figures(results, [("a", "b", ">= 2"), ("a", "c", ">= 1")])}
    assert list(told) == ["a", "b", "a / b"]
    assert told["a / b"].value == 3
    assert told["a / b"].holds


RATES = {"a": [30.0, 300.0, 20.0], "b": [10.0, 10.0, 1.0]}
