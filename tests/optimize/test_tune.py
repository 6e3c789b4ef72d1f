"""Which set-ups are tried, which go on, and which is taken."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from engines.artifact import Artifact, Repository
from engines.manifest import Machine, Manifest
from headrace.config import parse_config
from headrace.errors import ArtifactRejected, ConfigRejected, EngineFailed, EngineUnavailable
from headrace.tensors import Signature, TensorSpec
from optimize.instance import Instance, Order
from optimize.tune import (
    BATCHES,
    PADDINGS,
    Candidate,
    Fixed,
    Row,
    candidates,
    choose,
    fixed_by,
    judge,
    stages,
    survivors,
    tune,
)
from optimize.tune_report import as_json, as_table, in_words
from tests.onnx_models import publish_all

BUCKETS = ({"length": 8}, {"length": 32})
SEEN = [({"length": length}, 1) for length in (3, 9, 30)]
MACHINE = Machine(cpu="some", cores=2)


@pytest.fixture
def double(tmp_path: Path) -> Artifact:
    return publish_all(tmp_path).open("double", "1")


def manifest_of(artifact: Artifact, **changes: object) -> Manifest:
    return artifact.manifest.model_copy(update=changes)


def loaded(process: Instance) -> None:
    process.tell(Order(1, {}, [{"length": 3}], 1, 0.0))
    process.hear(0.0)


def row(rate: float, instances: int = 1, max_batch: int = 8, grouping: str = "exact") -> Row:
    found = Row(Candidate(instances, 1, 1, max_batch, 0.25, grouping))
    found.rate = rate
    return found


def test_every_way_to_spend_the_cores_is_tried(double: Artifact) -> None:
    found, _ = candidates(double.manifest, 4, Fixed(), BUCKETS)
    ways = {(c.instances, c.streams, c.threads) for c in found}
    assert ways == {(1, 1, 4), (1, 4, 1), (2, 1, 2), (2, 2, 1), (4, 1, 1), (2, 1, 1)}
    assert {c.max_batch for c in found} == set(BATCHES)
    assert {c.grouping for c in found} == {"exact", "nearest", "buckets"}
    assert {c.max_padding for c in found if c.grouping == "nearest"} == set(PADDINGS)
    assert len(set(found)) == len(found)


def test_the_untuned_one_is_among_them(double: Artifact) -> None:
    found, default = candidates(double.manifest, 2, Fixed(), ())
    assert default == Candidate(2, 1, 1, 8, 0.1, "nearest")
    assert found.count(default) == 1


def test_a_model_that_must_not_be_padded_is_not(double: Artifact) -> None:
    found, default = candidates(manifest_of(double, grouping="exact"), 2, Fixed(), BUCKETS)
    assert {c.grouping for c in found} == {"exact"} == {default.grouping}


def test_fixed_sizes_need_no_padding(double: Artifact) -> None:
    image = TensorSpec("x", "FP32", ("batch", 3))
    found, _ = candidates(manifest_of(double, signature=Signature((image,), (image,))), 2, Fixed(), ())
    assert {c.grouping for c in found} - {"nearest"} == {"exact"}
    assert sum(c.grouping == "nearest" for c in found) <= 1  # the untuned one


@pytest.mark.parametrize(
    ("fixed", "ways"),
    [
        (Fixed(threads=2), {(2, 1, 2), (1, 2, 2)}),
        (Fixed(threads=3), {(1, 1, 3)}),
        (Fixed(threads=9), {(1, 1, 9)}),
        (Fixed(streams=1), {(1, 1, 4), (2, 1, 2), (4, 1, 1)}),
        (Fixed(streams=4), {(1, 4, 1)}),
        (Fixed(instances=3), {(3, 1, 1)}),
        (Fixed(instances=9), {(9, 1, 1)}),
        (Fixed(instances=1), {(1, 1, 4), (1, 4, 1)}),
        (Fixed(instances=2, threads=1), {(2, 2, 1)}),
    ],
)
def test_what_is_settled_is_not_searched(
    double: Artifact, fixed: Fixed, ways: set[tuple[int, int, int]]
) -> None:
    found, default = candidates(double.manifest, 4, fixed, ())
    assert {(c.instances, c.streams, c.threads) for c in found if c != default} == ways


def test_the_configuration_settles_what_it_gives() -> None:
    config = parse_config(
        {
            "gateways": 2,
            "models": {
                "a": {
                    "threads": 1,
                    "batching": {"permits": 2, "max_batch": 8, "max_padding": 0.25, "grouping": "exact"},
                },
                "b": {"placement": "replicas", "replicas": 3},
                "c": {"batching": {"grouping": "auto"}},
            },
        }
    )
    assert fixed_by(config, config.models["a"]) == Fixed(2, 2, 1, 8, 0.25, "exact")
    assert fixed_by(config, config.models["b"]) == Fixed(instances=3)
    assert fixed_by(config, config.models["c"]) == Fixed(instances=2)
    plain = parse_config({"models": {"c": {}}})
    assert fixed_by(plain, plain.models["c"]) == Fixed()


@pytest.mark.parametrize("number", [1, 2, 5, 6, 40, 101])
def test_the_worse_half_leaves_after_each_stage(number: int) -> None:
    plan = stages(number)
    assert plan[0][0] == number
    assert plan[-1][0] <= 5
    assert plan[-1][1] >= 5
    assert all(later[0] < earlier[0] for earlier, later in pairwise(plan))


def test_the_simplest_of_those_as_fast_is_taken() -> None:
    fast, near, simple, slow = row(100, 2, 16), row(95, 2, 8), row(91, 1, 16), row(50, 1, 4)
    assert choose([fast, near, simple, slow]) is simple
    assert choose([fast, near, slow]) is near
    assert choose([fast, slow]) is fast


def test_padding_is_less_simple_than_none() -> None:
    exact, nearest = row(95), row(100, grouping="nearest")
    assert choose([exact, nearest]) is exact


def test_the_fastest_the_simplest_and_the_untuned_go_on() -> None:
    default = row(10, 2)
    rows = [default, *(row(100 - n, 2, 32) for n in range(20)), row(88, 1, 4)]
    left = survivors(rows, 5, default)
    assert len(left) == 5
    assert default in left
    assert rows[1] in left
    assert rows[-1] in left


def test_what_slows_a_whole_round_slows_nobody() -> None:
    fast, slow = row(0), row(0)
    fast.turns, slow.turns = [200, 20, 200, 20, 100], [100, 10, 110, 10, 100]
    judge([fast, slow])
    assert fast.rate == pytest.approx(2 * slow.rate, rel=0.01)


def test_a_version_is_tuned_in_processes_of_its_own(double: Artifact) -> None:
    outcome = tune(double, SEEN, MACHINE, seconds=2.0, clients=8, buckets=BUCKETS, fixed=Fixed(max_batch=4))
    tuned = outcome.tuned
    assert tuned.max_batch == 4
    assert (tuned.instances, tuned.permits, tuned.threads) in {(1, 1, 2), (1, 2, 1), (2, 1, 1)}
    assert tuned.buckets == BUCKETS
    assert tuned.figures["rows_per_s"] >= 0.9 * tuned.figures["fastest_rows_per_s"] > 0
    assert outcome.chosen in outcome.rows
    assert outcome.default in outcome.rows
    assert all(len(found.turns) >= 1 and found.rate > 0 for found in outcome.rows)
    Repository(double.folder.parent.parent).set_tuned(double, tuned)
    assert b'"is_chosen": true' in as_json(outcome)
    marks = list(as_table(outcome, "double/1").columns[0].cells)
    assert sum("chosen" in mark for mark in marks) == 1
    assert sum("untuned" in mark for mark in marks) == 1
    assert "within 10%" in in_words(outcome)


def test_too_little_time_is_told_with_what_is_enough(double: Artifact) -> None:
    with pytest.raises(ConfigRejected, match=r"0.5 s are too few for 48 set-ups; give at least \d+ s"):
        tune(double, SEEN, MACHINE, seconds=0.5, clients=8)


def test_an_engine_that_cannot_be_had_is_told(double: Artifact) -> None:
    document = (double.folder / "manifest.json").read_text().replace('"onnxruntime"', '"nothing"', 1)
    (double.folder / "manifest.json").write_text(document)
    with Instance(double) as process, pytest.raises(EngineUnavailable, match="engine 'nothing' unavailable"):
        loaded(process)


def test_files_that_were_changed_are_told(double: Artifact) -> None:
    double.graph_path.write_bytes(b"not what was published")
    with Instance(double) as process, pytest.raises(ArtifactRejected, match="has 22 bytes"):
        loaded(process)


def test_a_process_that_dies_is_told(double: Artifact) -> None:
    with Instance(double) as process:
        loaded(process)
        process.process.kill()
        with pytest.raises(EngineFailed, match="ended with signal SIGKILL"):
            loaded(process)


def test_a_process_is_told_again_and_again(double: Artifact) -> None:
    with Instance(double) as process:
        for threads in (1, 2, 3, 1):
            order = Order(threads, {"grouping": "exact", "max_batch": 2}, [{"length": 3}], 4, 1e-9)
            process.tell(order)
            ran = process.hear(0.0)
            assert (ran.rows, ran.batches) == (2, 1)
            assert np.isfinite(ran.seconds)
