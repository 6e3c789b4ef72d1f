from __future__ import annotations

import pytest

from deployments.pipelines import Step, joined
from headrace.errors import ConfigRejected
from headrace.tensors import Signature, TensorSpec

TEXT = TensorSpec("text", "BYTES", ("batch",))
IDS = TensorSpec("ids", "INT64", ("batch", "length"), low=0, high=9)
MASK = TensorSpec("mask", "INT64", ("batch", "length"))
VECTOR = TensorSpec("vector", "FP32", ("batch", 4))
LABEL = TensorSpec("label", "FP32", ("batch", 2))

TOKENS = Step("tokens", "1", "t1", Signature((TEXT,), (IDS, MASK)))
BODY = Step("body", "3", "b3", Signature((IDS, MASK), (VECTOR,), {"length": 8}))
HEAD = Step("head", "2", "h2", Signature((VECTOR,), (LABEL,)))


def test_the_first_step_takes_and_the_last_one_gives() -> None:
    whole = joined("all", (TOKENS, BODY, HEAD))
    assert (whole.name, whole.version) == ("all", "1-3-2")
    assert whole.signature == Signature((TEXT,), (LABEL,))


def test_what_no_step_gives_comes_from_the_request() -> None:
    ids_only = Step("tokens", "1", "t1", Signature((TEXT,), (IDS,)))
    whole = joined("all", (ids_only, BODY))
    assert whole.signature == Signature((TEXT, MASK), (VECTOR,), {"length": 8})


def test_another_version_of_a_step_gives_other_answers() -> None:
    newer = Step("head", "2", "other", HEAD.signature)
    assert joined("all", (BODY, HEAD)).digest != joined("all", (BODY, newer)).digest
    assert joined("all", (BODY, HEAD)).digest == joined("other", (BODY, HEAD)).digest


def test_versions_too_long_to_be_joined_are_told_by_the_digest() -> None:
    long = [Step(step.name, "v" * 40, step.digest, step.signature) for step in (BODY, HEAD)]
    assert len(joined("all", long).version) == 16


def test_steps_that_do_not_fit_are_refused_with_the_reason() -> None:
    narrow = Step("head", "2", "h", Signature((TensorSpec("vector", "FP16", ("batch", 4)),), (LABEL,)))
    with pytest.raises(
        ConfigRejected, match=r"'head' takes 'vector' as FP16 .* but step 'body' gives it as FP32"
    ):
        joined("all", (BODY, narrow))
    with pytest.raises(
        ConfigRejected, match=r"step 'head' takes \['vector'\], none of which 'tokens' before"
    ):
        joined("all", (TOKENS, HEAD))
