"""What a caller by handle may give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from deployments.arguments import request_of
from headrace.errors import CallerError

X = np.zeros((1, 2), np.float32)
GOOD = {
    "model": "m",
    "inputs": {"x": X},
    "version": None,
    "outputs": (),
    "timeout_s": None,
    "cache": "use",
    "tenant": "",
    "priority": 0,
}


def test_plain_arguments_make_a_request() -> None:
    request = request_of(**GOOD)
    assert request.inputs["x"] is X
    assert (request.version, request.outputs, request.timeout_s) == (None, (), None)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model": ["m"]}, "model must be a string"),
        ({"version": 2}, "version must be a string or None; got 2"),
        ({"tenant": None}, "tenant must be a string"),
        ({"cache": "no"}, "cache must be one of use, bypass, refresh, only; got 'no'"),
        ({"cache": []}, "cache must be one of"),
        ({"outputs": "y"}, "outputs must be a list of names; got 'y'"),
        ({"outputs": 3}, "outputs must be a list of names"),
        ({"outputs": [3]}, "it holds 3"),
        ({"timeout_s": float("nan")}, "timeout_s must be a number of seconds"),
        ({"timeout_s": -1}, "timeout_s"),
        ({"timeout_s": 10**400}, "timeout_s"),
        ({"timeout_s": "1"}, "timeout_s"),
        ({"timeout_s": X}, "timeout_s"),
        ({"timeout_s": True}, "timeout_s"),
        ({"priority": -1}, "priority must be 0 .the default level. or 1 .first. to 2147483647"),
        ({"priority": 2**31}, "priority"),
        ({"priority": True}, "priority"),
        ({"priority": 1.0}, "priority"),
        ({"inputs": [X]}, "inputs must map names to arrays"),
        ({"inputs": {1: X}}, "names of inputs must be strings; got 1"),
        ({"inputs": {"x": [1, 2]}}, "input 'x' must be a numpy array"),
        ({"inputs": {"x": np.ma.masked_array([1.0], [True])}}, "masked array"),
        ({"inputs": {"x": np.array([b"a", None], object)}}, "it holds None|holds None"),
        ({"inputs": {"x": np.array([5], object)}}, "holds 5"),
        ({"inputs": {"x": np.array(["\ud800"], object)}}, "UTF-8"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], told: str) -> None:
    with pytest.raises(CallerError, match=told):
        request_of(**{**GOOD, **change})


@pytest.mark.parametrize(
    "text",
    [
        np.array([["hi", "there"]]),
        np.array([[b"hi", b"there"]]),
        np.array([["hi", b"there"]], object),
        np.array([["hi", "there"]], np.dtypes.StringDType()),
    ],
)
def test_text_of_every_kind_becomes_bytes(text: Any) -> None:
    found = request_of(**{**GOOD, "inputs": {"x": text}}).inputs["x"]
    assert found.tolist() == [[b"hi", b"there"]]
