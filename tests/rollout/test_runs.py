"""A run comes back from its file as it was, and two are told apart in words."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from headrace.errors import ConfigRejected
from headrace.sketch import Sketch
from rollout import runs
from rollout.evidence import Slot
from rollout.fingerprint import fingerprint
from rollout.runs import Run


def run(latency_s: float = 0.01, *, errors: int = 0, **load: str) -> Run:
    windows = []
    for window in range(100):
        latency = Sketch()
        for number in range(10 - errors):
            latency.add(latency_s * (1 + 0.05 * ((number + window) % 7)))
        windows.append(Slot(10, errors, window % 2, latency))
    return Run({"model": "m", "clients": "8", **load}, 2, 0.1, tuple(windows), {"200": 1000})


def test_a_run_comes_back_as_it_was() -> None:
    saved = replace(run(), command="headrace bench", at="2025-01-01T00:00:00+00:00", machine=fingerprint())
    assert runs.parse(runs.dump(saved), "a.json") == saved


def test_figures_are_of_good_answers_and_shares_of_all() -> None:
    figures = run(errors=2).figures()
    assert (figures["requests"], figures["requests_per_s"], figures["rows_per_s"]) == (1000, 80.0, 160.0)
    assert (figures["errors"], figures["hits"]) == (0.2, 0.05)
    assert figures["p50"] == pytest.approx(0.0115, rel=0.02)


def test_a_run_without_an_answer_has_no_latencies() -> None:
    figures = run(errors=10).figures()
    assert figures["p50"] is None
    assert figures["max"] is None
    assert runs.parse(runs.dump(run(errors=10)), "a.json") == run(errors=10)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "Invalid JSON"),
        (b"[]", "document"),
        (b'{"format": 1}', "command"),
        (runs.dump(run()).replace(b'"format": 1', b'"format": 2'), "format"),
        (runs.dump(run()).replace(b'"window_s": 0.1', b'"window_s": 0'), "window_s"),
    ],
)
def test_another_file_is_told_with_how_to_write_one(data: bytes, told: str) -> None:
    with pytest.raises(ConfigRejected, match=told) as err:
        runs.parse(data, "a.json")
    assert "headrace bench URL --model NAME --json a.json" in str(err.value)


def test_worse_and_better_beyond_noise_are_said() -> None:
    before, after = run(), run(0.02)
    said = runs.words(before, after, runs.effects(before, after))
    assert said[0].startswith("Worse beyond noise: P50 ")
    said = runs.words(after, before, runs.effects(after, before))
    assert said[0].startswith("Better beyond noise: P50 ")
    said = runs.words(before, before, runs.effects(before, before))
    assert said[0] == "Within noise: errors, P50, P95, P99, throughput."


def test_fewer_good_answers_are_worse_though_the_ratio_is_below_one() -> None:
    before, after = run(), run(errors=5)
    (worse, *_) = runs.words(before, after, runs.effects(before, after))
    assert worse.startswith("Worse beyond noise: errors ")
    assert "throughput" in worse


def test_another_load_is_said_first() -> None:
    before, after = run(), run(clients="16", length="8")
    assert runs.words(before, after, [])[0] == (
        "Not the same load: clients was 8, now 16; length was not given, now 8."
    )


def test_the_rate_of_an_open_loop_is_no_finding() -> None:
    found = runs.effects(run(rate="10/s"), run(rate="10/s"))
    assert "throughput" not in [effect.measure for effect in found]


def test_short_runs_have_no_verdict() -> None:
    short = replace(run(), windows=run().windows[:20])
    assert "No verdict" in runs.words(short, short, runs.effects(short, short))[0]


def test_the_file_has_the_figures_for_other_programs() -> None:
    assert orjson.loads(runs.dump(run()))["figures"]["requests_per_s"] == 100.0
