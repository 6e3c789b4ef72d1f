"""What versions are measured with."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.manifest import Machine, Manifest, Tuned
from headrace.tensors import Signature, TensorSpec
from rollout.workload import Measure, measures_of, workload
from tests.onnx_models import publish_all

SEEN = [({"length": length}, 1) for length in (30, 3, 9, 12, 50)]
TUNED = Tuned(
    instances=1,
    threads=2,
    max_batch=16,
    max_padding=0.25,
    grouping="buckets",
    buckets=({"length": 64},),
    machine=Machine(cpu="some", cores=2),
)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return publish_all(tmp_path).manifest("double", "1")


def test_the_shortest_the_middle_and_the_longest_shape_stand_for_all(manifest: Manifest) -> None:
    work = workload(manifest, SEEN, 2)
    assert work.shapes == ({"length": 3}, {"length": 12}, {"length": 50})
    assert {sizes["length"] for sizes in work.order.sizes} == {3, 9, 12, 30, 50}


def test_one_shape_is_measured_once(manifest: Manifest) -> None:
    assert workload(manifest, SEEN[:1], 2).shapes == ({"length": 30},)


def test_an_untuned_version_runs_as_it_would_be_served(manifest: Manifest) -> None:
    work = workload(manifest, SEEN, 2)
    assert (work.threads, work.order.batching["grouping"], work.order.batching["max_batch"]) == (
        1,
        "nearest",
        8,
    )


def test_a_tuned_version_runs_as_tuned_on_as_many_cores(manifest: Manifest) -> None:
    tuned = manifest.model_copy(update={"tuned": TUNED})
    work = workload(tuned, SEEN, 2)
    assert work.threads == work.order.threads == 2
    assert work.order.batching["max_batch"] == 16
    assert work.order.batching["buckets"] == [{"length": 64}]
    assert workload(tuned, SEEN, 4) == workload(manifest, SEEN, 4)


def test_what_cannot_be_stacked_is_measured_alone(manifest: Manifest) -> None:
    spec = TensorSpec("x", "FP32", (4,))
    alone = manifest.model_copy(update={"signature": Signature((spec,), (spec,))})
    work = workload(alone, [({}, 1)], 2)
    assert work.batches == (1,)
    assert work.order.batching["max_batch"] == 1
    assert [calls.batch for calls in work.calls((1, 8))] == [1]


def test_a_measure_says_of_what_it_is(manifest: Manifest) -> None:
    calls = workload(manifest, SEEN, 2).calls((1, 8))
    assert [(each.batch, each.sizes["length"]) for each in calls] == [
        (1, 3),
        (8, 3),
        (1, 12),
        (8, 12),
        (1, 50),
        (8, 50),
    ]
    assert [str(measure) for measure in measures_of(calls[1])] == [
        "median latency, batch 8, length 3",
        "P95 latency, batch 8, length 3",
    ]
    assert str(Measure("cost")) == "CPU cost"
