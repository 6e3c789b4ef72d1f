"""Feedback as JSON: one object or a list, and what is wrong with it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.config import LimitsConfig
from headrace.errors import CallerError, NotFound, TooLarge
from headrace.requests import Truth, Verdict
from protocol.feedback import BODY_BYTES, decode, encode
from protocol.limits import Limits

LIMITS = Limits.from_config(LimitsConfig())


def decoded(document: object) -> tuple[list[Truth], bool]:
    return decode(json.dumps(document).encode(), LIMITS)


@pytest.mark.parametrize(
    ("document", "truth"),
    [
        ({"id": "a", "label": 3}, Truth("a", 3)),
        ({"id": "a", "label": [3, 1]}, Truth("a", [3, 1])),
        ({"id": "a", "label": "text"}, Truth("a", "text")),
        ({"id": "a", "right": True}, Truth("a", right=1.0)),
        ({"id": "a", "right": 0.5, "label": None}, Truth("a", right=0.5)),
        ({"id": "a", "right": 0}, Truth("a", right=0.0)),
    ],
)
def test_a_truth_is_a_label_or_how_right_it_was(document: object, truth: Truth) -> None:
    assert decoded(document) == ([truth], False)
    assert decoded([document, {"id": "b", "label": 1}]) == ([truth, Truth("b", 1)], True)


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({}, "'id' must be that of a request; got None"),
        ({"id": "", "label": 1}, "'id' must be"),
        ({"id": 7, "label": 1}, "'id' must be"),
        ({"id": "a" * 257, "label": 1}, "257 characters"),
        ({"id": "a"}, "neither of 'label' and 'right'"),
        ({"id": "a", "label": 1, "right": True}, "both of 'label' and 'right'"),
        ({"id": "a", "right": 1.5}, "from 0 to 1; got 1.5"),
        ({"id": "a", "right": "yes"}, "from 0 to 1; got 'yes'"),
        ([{"id": "a", "label": 1}, 5], r"feedback\[1\] must be an object"),
        ([], "1 to 1000 are allowed"),
        ([{"id": "a", "label": 1}] * 1001, "1001 objects"),
        (7, "must be an object"),
    ],
)
def test_what_is_wrong_is_said(document: object, told: str) -> None:
    with pytest.raises(CallerError, match=told):
        decoded(document)


def test_a_body_is_bounded_in_bytes_and_depth() -> None:
    with pytest.raises(TooLarge):
        decode(b" " * (BODY_BYTES + 1), LIMITS)
    with pytest.raises(CallerError, match="nests deeper"):
        decode(b"[" * 100, LIMITS)
    with pytest.raises(CallerError, match="not valid JSON"):
        decode(b"{", LIMITS)


@given(st.binary(max_size=60))
def test_any_body_is_taken_or_refused(body: bytes) -> None:
    try:
        decode(body, LIMITS)
    except CallerError:
        return


def test_results_stand_in_the_order_of_the_list() -> None:
    truths = [Truth("a", 1), Truth("b", 1)]
    told = [Verdict("2", 0.5), NotFound("no such")]
    assert json.loads(encode(truths, told, is_list=True)) == {
        "results": [{"id": "a", "model_version": "2", "right": 0.5}, {"id": "b", "error": "no such"}]
    }
    assert json.loads(encode(truths[:1], told[:1], is_list=False)) == {
        "id": "a",
        "model_version": "2",
        "right": 0.5,
    }
