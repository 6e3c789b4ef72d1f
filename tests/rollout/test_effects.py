"""Variants side by side: what differs, and what that is called."""

import math

import numpy as np
import pytest

from headrace.sketch import Sketch
from rollout.effects import MEASURES, compare
from rollout.evidence import Slot
from rollout.verdict import verdict


def seconds(seed, number=300, load=20, median_s=0.05, errors=0.0, accuracy=0.9, judged=0.5, replicas=1.0):
    random = np.random.default_rng(seed)
    slots = []
    for _ in range(number):
        requests = int(random.poisson(load))
        latency = Sketch()
        for value in median_s * np.exp(0.4 * random.standard_normal(requests)):
            latency.add(float(value))
        truths = int(random.binomial(requests, judged))
        slots.append(
            Slot(
                requests=requests,
                errors=int(random.binomial(requests, errors)),
                latency=latency,
                engine_s=float(0.2 * median_s * random.gamma(4.0, 0.25) * requests),
                replica_s=replicas,
                judged=truths,
                right=float(random.binomial(truths, accuracy)),
            )
        )
    return slots


def by_measure(comparison, variant):
    return {effect.measure: effect for effect in comparison.of(variant)}


def test_what_differs_is_clear_and_what_does_not_is_not():
    found = by_measure(compare(["fp32", "int8"], [seconds(1), seconds(2, median_s=0.025)]), "int8")
    assert found["p50"].high < 0.6
    assert found["p50"].low < 0.5 < found["p50"].high
    assert found["engine"].is_clear
    assert not any(found[measure].is_clear for measure in ("errors", "accuracy", "cost", "throughput"))


def test_identical_variants_are_hardly_ever_told_apart_by_any_measure():
    """Over all measures together, with three variants: at most 5% are allowed."""
    told = 0
    for seed in range(40):
        runs = [seconds(3 * seed + number, number=120, load=10) for number in range(3)]
        told += any(effect.is_clear for effect in compare(["a", "b", "c"], runs).effects)
    assert told <= 2


def test_values_are_in_their_units():
    found = compare(["a", "b"], [seconds(1), seconds(2, errors=0.5, replicas=4.0)]).variants[1]
    assert found.values["errors"] == pytest.approx(0.5, abs=0.03)
    assert found.values["cost"] == pytest.approx(1000 * 4 / 20, rel=0.05)
    assert found.values["throughput"] == pytest.approx(20, rel=0.05)
    assert found.values["p50"] == pytest.approx(0.05, rel=0.05)
    assert found.values["engine"] == pytest.approx(0.01, rel=0.1)
    assert set(found.values) == set(MEASURES)


def test_what_nobody_measured_has_no_effect():
    runs = [seconds(1, judged=0.0, replicas=0.0), seconds(2, judged=0.0, replicas=0.0)]
    found = by_measure(compare(["a", "b"], runs), "b")
    assert set(MEASURES) - set(found) == {"accuracy", "cost"}


def test_early_there_is_no_effect():
    comparison = compare(["a", "b"], [seconds(1, number=59), seconds(2, number=59)])
    assert comparison.effects == ()
    assert "No verdict yet on b" in verdict(comparison)
    assert "59 seconds" in verdict(comparison)


def test_no_requests_at_all():
    comparison = compare(["a", "b"], [[Slot()] * 100, [Slot()] * 100])
    assert comparison.effects == ()
    assert verdict(comparison).startswith("No verdict yet on b: a has 0 requests")


def test_few_requests_leave_the_p99_open_upwards():
    runs = [seconds(1, number=100, load=2), seconds(2, number=100, load=2)]
    found = by_measure(compare(["a", "b"], runs), "b")
    assert math.isinf(found["p99"].high)
    assert not found["p99"].is_clear


def test_no_errors_seen_is_not_no_errors():
    found = by_measure(compare(["a", "b"], [seconds(1), seconds(2)]), "b")
    assert found["errors"].low < 0 < found["errors"].high


def test_the_verdict_says_what_differs_and_how_much_is_known_of_the_rest():
    words = verdict(compare(["fp32", "int8"], [seconds(1), seconds(2, median_s=0.025)]))
    assert words.startswith("int8 ")
    assert "times faster at P50" in words
    assert "than fp32" in words
    assert "errors" in words.split(";")[1]
    assert "as far as" in words
    assert "points" in words


def test_the_verdict_says_what_is_worse():
    words = verdict(compare(["a", "b"], [seconds(1), seconds(2, errors=0.1, accuracy=0.6, replicas=3.0)]))
    assert "points more often" in words
    assert "is right" in words
    assert "points less often" in words
    assert "times dearer" in words


def test_each_variant_has_its_sentence():
    words = verdict(compare(["a", "b", "c"], [seconds(1), seconds(2), seconds(3, median_s=0.1)]))
    assert "No verdict yet on b: nothing differs from a" in words
    assert "c is" in words
