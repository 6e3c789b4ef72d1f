"""What a candidate must have in common with the stable version."""

from __future__ import annotations

import pytest

from deployments.control import unlike
from headrace.tensors import Signature, TensorSpec

IDS = TensorSpec("ids", "INT64", ("batch", "length"), low=0, high=30_000)
SCORES = TensorSpec("scores", "FP32", ("batch", 10))
STABLE = Signature((IDS,), (SCORES,), {"length": 512})


def changed(**parts: object) -> Signature:
    return Signature(**{"inputs": (IDS,), "outputs": (SCORES,), "limits": {"length": 512}, **parts})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "candidate",
    [
        STABLE,
        changed(limits={"length": 1024}),
        changed(limits={}),
        changed(inputs=(TensorSpec("ids", "INT64", ("batch", "length"), low=-1, high=40_000),)),
        changed(inputs=(TensorSpec("ids", "INT64", ("batch", "length")),)),
    ],
)
def test_a_candidate_may_take_more_than_the_stable_version(candidate: Signature) -> None:
    assert unlike(STABLE, candidate) == ""


@pytest.mark.parametrize(
    ("candidate", "why"),
    [
        (
            changed(inputs=(TensorSpec("x", "INT64", ("batch", "length")),)),
            "its inputs are ['x'], not ['ids']",
        ),
        (changed(inputs=(TensorSpec("ids", "INT32", ("batch", "length")),)), "is INT32"),
        (changed(inputs=(TensorSpec("ids", "INT64", ("batch", 128)),)), "128"),
        (changed(inputs=(TensorSpec("ids", "INT64", ("batch", "length"), high=20_000),)), "20000 at most"),
        (
            changed(inputs=(TensorSpec("ids", "INT64", ("batch", "length"), low=1, high=30_000),)),
            "1 at least",
        ),
        (changed(outputs=(TensorSpec("scores", "FP32", ("batch", 12)),)), "output 'scores'"),
        (changed(outputs=(SCORES, TensorSpec("more", "FP32", ("batch",)))), "its outputs are"),
        (changed(limits={"length": 256}), "may be 256 at most, not 512"),
    ],
)
def test_a_candidate_that_would_refuse_callers_or_surprise_them_is_told(
    candidate: Signature, why: str
) -> None:
    assert why in unlike(STABLE, candidate)


def test_a_limit_where_there_was_none_is_told() -> None:
    assert "not any size" in unlike(changed(limits={}), STABLE)
