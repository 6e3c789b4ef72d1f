"""What is declared about answers must hold for the versions there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deployments.declared import cheaper_for, check_declared, why_not_cheaper
from engines.artifact import Repository
from engines.manifest import Manifest, make_manifest
from headrace.config import ModelConfig, OverloadConfig
from headrace.errors import ConfigRejected
from headrace.tensors import Signature, TensorSpec
from tests.onnx_models import publish_dear

OVERLOAD = OverloadConfig(version="2", max_drop=0.01)


def manifest(version: str, accuracy: float | None, width: int = 3) -> Manifest:
    return make_manifest(
        name="m",
        version=version,
        engine="onnxruntime",
        engine_version="1",
        cpu_flags=(),
        graph="model.onnx",
        signature=Signature((), (TensorSpec("y", "FP32", ("batch", width)),)),
        precision="fp32",
        files={"model.onnx": {"sha256": "0" * 64, "size": 1}},
        created="now",
        figures={} if accuracy is None else {"accuracy": accuracy},
    )


def test_a_cheaper_version_within_the_budget_may_answer() -> None:
    assert why_not_cheaper(OVERLOAD, manifest("1", 0.92), manifest("2", 0.91)) == ""
    assert why_not_cheaper(OVERLOAD, manifest("1", 0.92), manifest("2", 0.95)) == ""


@pytest.mark.parametrize(
    ("answering", "cheaper", "told"),
    [
        (manifest("1", 0.92), manifest("2", 0.90), "accuracy of 0.9, version '1' of 0.92: 0.02 less"),
        (manifest("1", None), manifest("2", 0.9), "accuracy of version '1' is unknown; headrace optimize"),
        (manifest("1", 0.9), manifest("2", None), "accuracy of version '2' is unknown; headrace optimize"),
        (manifest("1", 0.9), manifest("2", 0.9, width=4), "takes or gives other tensors"),
        (manifest("2", 0.9), manifest("2", 0.9), "answers anyway; name another"),
    ],
)
def test_a_version_that_may_not_answer_says_why(answering: Manifest, cheaper: Manifest, told: str) -> None:
    assert told in why_not_cheaper(OVERLOAD, answering, cheaper)
    with pytest.raises(ConfigRejected, match=r"models\.m\.overload: "):
        check_declared(ModelConfig(overload=OVERLOAD), answering, cheaper)


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"answers": {"z": {"rule": "top1"}}}, r"models\.m\.answers: no output 'z'; the model gives: y"),
        ({"feedback": {"output": "z"}}, r"models\.m\.feedback: no output 'z'"),
        ({"feedback": {"output": "y", "rule": "equal"}}, ""),
        ({}, ""),
    ],
)
def test_rules_are_about_outputs_that_there_are(document: dict[str, Any], told: str) -> None:
    model = ModelConfig.model_validate(document)
    if not told:
        check_declared(model, manifest("1", None), None)
        return
    with pytest.raises(ConfigRejected, match=told):
        check_declared(model, manifest("1", None), None)


def test_a_version_that_a_rollout_has_brought_has_no_cheaper_one_unless_that_is_good_enough(
    tmp_path: Path,
) -> None:
    repository = Repository(tmp_path)
    publish_dear(repository, "m")  # versions 1 and 2
    declared = ModelConfig(overload=OVERLOAD)
    usual = repository.manifest("m", "1")
    assert cheaper_for(declared, usual, repository) == "2"
    assert cheaper_for(ModelConfig(), usual, repository) is None
    unmeasured = usual.model_copy(update={"version": "3", "figures": {}})
    assert cheaper_for(declared, unmeasured, repository) is None
    assert cheaper_for(declared, repository.manifest("m", "2"), repository) is None
