"""Equal shapes meet on one replica while there is little to do, and spread when there is more."""

from __future__ import annotations

import time
import urllib.request
from collections import Counter

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from deployments.affinity import preferred, ranked
from deployments.load import infer_request
from headrace.metrics import BATCHES
from tests.conftest import Running

REPLICAS = ["a", "b", "c"]
METRICS_WAIT_S = 40


def test_a_group_prefers_the_same_replica_whatever_their_order() -> None:
    assert ranked("length<=64", REPLICAS) == ranked("length<=64", REPLICAS[::-1])
    assert sorted(ranked("length<=64", REPLICAS)) == REPLICAS


def test_groups_are_shared_out() -> None:
    firsts = Counter(ranked(f"length={length}", REPLICAS)[0] for length in range(300))
    assert all(60 < firsts[name] < 140 for name in REPLICAS)


def test_when_a_replica_goes_only_its_own_groups_move() -> None:
    for length in range(100):
        before = ranked(f"length={length}", REPLICAS)
        assert ranked(f"length={length}", REPLICAS[:2]) == [name for name in before if name != "c"]


@pytest.mark.parametrize(
    ("calls", "chosen"),
    [
        ({}, "b"),
        ({"a": 0, "b": 1, "c": 0}, "b"),
        ({"a": 1, "b": 2, "c": 0}, "c"),
        ({"a": 2, "b": 3, "c": 2}, "b"),
        ({"a": 1, "b": 9, "c": 1}, "a"),
        ({"b": 9, "a": 3}, "c"),
    ],
)
def test_the_least_busy_one_is_taken_only_when_the_first_is_busy(calls: dict[str, int], chosen: str) -> None:
    assert preferred(["b", "a", "c"], calls) == chosen


def batches(running: Running, group: str) -> Counter[str]:
    """The batches of a group by the replica that ran them."""
    with urllib.request.urlopen(running.server.metrics_url, timeout=10) as answer:
        text = answer.read().decode()
    found: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            is_asked = sample.labels.get("model") == "far" and sample.labels.get("group") == group
            if is_asked and sample.name == f"ray_{BATCHES.name}":
                found[sample.labels["replica"]] += int(sample.value)
    return found


def told(running: Running, group: str, least: int) -> Counter[str]:
    """The same, once as many batches are told."""
    deadline = time.monotonic() + METRICS_WAIT_S
    while (found := batches(running, group)).total() < least and time.monotonic() < deadline:
        time.sleep(1)  # Ray exports every few seconds
    return found


def test_equal_shapes_land_on_one_replica_and_spread_under_load(running: Running) -> None:
    lengths = (256, 512, 1024, 2048)
    one_by_one = [
        infer_request("test", "far", {"x": np.ones((1, length), np.float32)})
        for _ in range(10)
        for length in lengths
    ]
    assert running.ask(one_by_one).num_failed == 0
    many = [infer_request("test", "far", {"x": np.ones((1, 8192), np.float32)})] * 1000
    assert running.ask(many, 64).num_failed == 0
    for length in lengths:
        assert sorted(told(running, f"length<={length}", 10).values()) == [10]
    shares = sorted(told(running, "length<=8192", 60).values())
    assert len(shares) == 2
    assert shares[0] > 0.1 * sum(shares)
