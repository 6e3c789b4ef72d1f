import json
from dataclasses import replace

import pytest
from pydantic import TypeAdapter

from engines.manifest import SessionOptions
from headrace.errors import GoalMissed
from optimize import report_words as words
from optimize.goals import Goals
from optimize.machine import this_machine
from optimize.measure import Measured
from optimize.report import Report, as_json
from optimize.table import as_text, comparison
from tests.optimize import samples


def _line(text, start):
    return next(line for line in text.splitlines() if line.strip().startswith(start))


def test_gains_are_those_of_the_chosen_version():
    report = samples.small()
    assert report.before.version == "1"
    assert report.after.version == "2"
    assert report.gains() == pytest.approx({"speedup": 2.5, "size_ratio": 23 / 90, "drop": 0.0005})
    assert (report.speedup, report.size_ratio, report.drop) == tuple(report.gains().values())
    assert report.figures()["latency_ms"] == 1.6
    assert report.misses == ()


def test_speed_is_compared_with_the_original_of_the_same_run():
    report = samples.small()
    measured = replace(report.after.measured, original_ms=4.8)  # the machine was busier than at first
    report = replace(report, candidates=(replace(samples.CHOSEN, measured=measured),))
    assert report.speedup == pytest.approx(4.8 / 1.6)
    alone = replace(measured, original_ms=0.0)
    report = replace(report, candidates=(replace(samples.CHOSEN, measured=alone),))
    assert report.speedup == pytest.approx(4.0 / 1.6)


def test_without_a_chosen_version_there_are_no_gains():
    report = samples.missed()
    assert report.chosen is None
    for ask in (lambda: report.after, lambda: report.speedup, report.gains, report.figures):
        with pytest.raises(GoalMissed, match="no version of minilm was chosen"):
            ask()


def test_the_nearest_version_falls_least_short_of_what_was_wanted():
    report = samples.missed()
    assert report.nearest.name == "int8-dynamic"
    assert [str(miss) for miss in report.misses] == ["max_drop: wanted 0.01, reached 0.021"]
    slow = samples.row("int8-dynamic", "missed", (23_000_000, 3.9, 0.86))
    wrong = samples.row("int8-static", "missed", (23_000_000, 1.0, 0.5))
    both = replace(report, candidates=(wrong, slow), goals=Goals(max_drop=0, min_speedup=2))
    assert both.nearest is slow


def test_of_nothing_measured_none_is_nearest():
    report = samples.hopeless()
    assert report.nearest is None
    assert report.misses == ()


def test_the_text_says_what_was_gained_and_how_to_repeat_it():
    text = as_text(samples.small())
    assert "90.0 MB" in _line(text, "fp32")
    line = _line(text, "int8-static")
    assert "23.0 MB (0.26)" in line
    assert "1.60 ms (2.50x)" in line
    assert "0.8605 (-0.0005)" in line
    assert "chosen, version 2" in line
    assert "every goal is reached" in text
    assert text.endswith("repeat with: headrace optimize recipe.py --out models/minilm --goal max_drop=0.01")


def test_the_text_names_the_baseline_and_every_reason():
    text = as_text(samples.large())
    assert "against fp32 on ONNX Runtime, one row at a time on one thread" in text
    assert "fp32 on TensorRT skipped: tensorrt is not installed" in text
    assert "prune-heads failed: the process ended by SIGFPE after distill had run" in text
    assert "int8-dynamic refused: convolutions run slower with dynamic INT8" in text


def test_a_table_of_any_names_keeps_to_its_width():
    for report in (samples.large(), samples.unwieldy()):
        text = as_text(replace(report, command=""))
        assert max(map(len, text.splitlines())) <= 110


def test_the_text_names_what_was_missed():
    assert "no goal was set" in as_text(replace(samples.small(), goals=Goals()))
    text = as_text(samples.missed())
    assert "missed max_drop: wanted 0.01, reached 0.021" in text
    assert "No version was chosen. int8-dynamic on ONNX Runtime came nearest but misses max_drop" in text
    text = as_text(samples.hopeless())
    assert "none could be measured (1 refused, 1 failed)" in text
    assert "missed max_drop: wanted 0.01, nothing was measured" in text


def test_markup_of_a_terminal_in_names_is_text():
    row = replace(samples.REFUSED, name="[bold]x[/bold]", reason="[red]no[/red]")
    text = as_text(replace(samples.small(), candidates=(row,), command="[link]"))
    assert "[bold]x[/bold] refused: [red]no[/red]" in text
    assert "repeat with: [link]" in text


def test_the_comparison_shows_the_original_beside_the_chosen_version():
    told = {name: (before, after) for name, before, after in comparison(samples.small())}
    assert told["size"] == ("90.0 MB", "23.0 MB (0.26 of it)")
    assert told["latency, one row"] == ("4.00 ms", "1.60 ms (2.50 times as fast)")
    assert told["graph passes left out"] == ("none", "SkipLayerNormFusion")


@pytest.mark.parametrize("make", [samples.small, samples.large, samples.missed, samples.hopeless])
def test_the_json_holds_the_whole_report(make):
    report = make()
    assert TypeAdapter(Report).validate_json(as_json(report)) == report


def test_the_json_tells_the_gains_of_the_chosen_version():
    told = json.loads(as_json(samples.small()))
    assert told["gains"] == pytest.approx({"speedup": 2.5, "size_ratio": 23 / 90, "drop": 0.0005})
    assert told["candidates"][0]["session"]["disabled_optimizers"] == ["SkipLayerNormFusion"]
    assert told["candidates"][0]["measured"]["latencies"][0]["sizes"] == {"length": 9}
    assert told["original"]["measured"]["size_bytes"] == 90_000_000
    assert json.loads(as_json(samples.missed()))["gains"] is None


def test_each_goal_is_told_with_what_was_reached():
    goals = Goals(max_drop=0.01, min_speedup=3, max_size=0.3, min_accuracy=0.86, max_latency_ms=2)
    told = {goal.name: goal for goal in words.goals(replace(samples.small(), goals=goals))}
    assert {name: goal.reached for name, goal in told.items()} == {
        "max_drop": "0.0005",
        "min_speedup": "2.5",
        "max_size": "0.2556",
        "min_accuracy": "0.8605",
        "max_latency_ms": "1.6",
    }
    assert [name for name, goal in told.items() if goal.is_missed] == ["min_speedup"]


def test_a_name_carries_its_engine_only_where_two_engines_share_it():
    report = samples.large()
    told = [words.name(report, row) for row in (report.original, *report.candidates)]
    assert {"fp32 on ONNX Runtime", "fp32 on OpenVINO", "fp16", "int8-static"} <= set(told)


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        (words.size(999), "999 bytes"),
        (words.size(162_400), "162 kB"),
        (words.size(23_000_000), "23.0 MB"),
        (words.ms(0.0123), "0.012 ms"),
        (words.ms(1.6), "1.60 ms"),
        (words.ms(123.4), "123 ms"),
        (words.change(0.0), "+0.0000"),
        (words.change(0.00001), "+0.0000"),
        (words.change(0.0024), "-0.0024"),
        (words.duration(9.6), "10 s"),
        (words.duration(125.4), "2 min 5 s"),
        (words.duration(3725), "1 h 2 min"),
        (words.fact("compressed_bytes", 155_234), ("compressed size", "155 kB")),
        (words.fact("sparsity", 0.8), ("sparsity", "0.8")),
        (words.fact("parameters", 155_626), ("parameters", "155,626")),
        (words.fact("wait_ms", 1.5), ("wait", "1.50 ms")),
    ],
)
def test_figures_are_written_with_the_digits_that_count(told, wanted):
    assert told == wanted


def test_rows_do_not_share_what_they_are_given_by_default():
    row = samples.row("fp16", "good")
    assert (row.session, row.stages, row.facts) == (SessionOptions(), {}, {})
    assert Measured(1, 2.0, 0.5).speedup == 1.0


def test_this_machine_names_its_libraries():
    machine = this_machine()
    assert machine.cores >= 1
    assert {"python", "onnxruntime", "numpy"} <= machine.versions.keys()
