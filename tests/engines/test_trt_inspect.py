"""A plan's layers are counted by type, in whatever words a release of TensorRT tells of them."""

from __future__ import annotations

import json

import pytest

from engines.trt_inspect import Inspection, inspected


def layer(kind: str, key: str, words: str) -> dict[str, object]:
    return {"Name": kind, "LayerType": kind, "Inputs": [{"Name": "x", "Dimensions": [1, 3], key: words}]}


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("DataType", {"INT8": "Int8", "FP16": "Half", "BF16": "BFloat16", "FP32": "Float", "FP8": "FP8"}),
        (
            "Format/Datatype",
            {
                "INT8": "Thirty-two wide channel vectorized row major Int8 format",
                "FP16": "Channel major FP16 format where channel % 8 == 0",
                "BF16": "Row major linear BFloat16 format",
                "FP32": "Row major linear FP32 format (kLINEAR)",
                "FP8": "Row major linear FP8 format",
            },
        ),
    ],
    ids=["11", "10"],
)
def test_layers_are_counted_by_what_they_compute_in(key: str, words: dict[str, str]) -> None:
    layers = [layer("CaskConvolution", key, told) for told in words.values()]
    layers += [layer("gemm", key, words["INT8"]), layer("Reformat", key, words["FP32"])]
    found = inspected(json.dumps({"Layers": layers}))
    assert found == Inspection(7, 1, {"INT8": 2, "FP16": 1, "BF16": 1, "FP32": 1, "FP8": 1})
    assert found.in_words == (
        "7 layers after fusion: 2 in INT8, 1 in FP16, 1 in BF16, 1 in FP32, 1 in FP8; 1 changes formats alone"
    )


def test_a_layer_without_inputs_counts_by_its_output_and_one_without_both_as_unknown() -> None:
    constant = {"LayerType": "Constant", "Inputs": [], "Outputs": [{"DataType": "Half"}]}
    found = inspected(json.dumps({"Layers": [constant, {"LayerType": "kgen"}]}))
    assert found == Inspection(2, 0, {"FP16": 1, "unknown": 1})


@pytest.mark.parametrize(
    "told", ["", "no JSON", "[]", "{}", '{"Layers": ["conv1", "relu1"]}', '{"Layers": 3}']
)
def test_names_alone_tell_nothing(told: str) -> None:
    assert inspected(told) is None
