"""Typed contents become arrays, or are refused with what was wrong."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.errors import TensorRejected
from headrace.tensors import DTYPES
from protocol import messages
from protocol.tensors_contents import from_contents
from tests.example_tensors import example, same_bits

FIELDS = {
    "BOOL": "bool",
    "INT64": "int64",
    "UINT64": "uint64",
    "FP32": "fp32",
    "FP64": "fp64",
    "BYTES": "bytes",
}
TYPED = sorted(set(DTYPES) - {"FP16", "BF16"})


def contents(**fields: list[Any]) -> Any:
    return messages.ModelInferRequest.InferInputTensor(contents=fields).contents


def field_of(dtype: str) -> str:
    return f"{FIELDS.get(dtype, 'uint' if dtype.startswith('U') else 'int')}_contents"


@pytest.mark.parametrize("dtype", TYPED)
@pytest.mark.parametrize("shape", [(2, 3), (0,), (), (6,)])
def test_elements_keep_their_bits(dtype: str, shape: tuple[int, ...]) -> None:
    array = example(dtype, shape)
    message = contents(**{field_of(dtype): array.reshape(-1).tolist()})
    assert same_bits(from_contents("input 'x'", dtype, list(shape), message), array)


@pytest.mark.parametrize(
    ("dtype", "fields", "words"),
    [
        ("FP16", {}, "FP16, which has no typed contents; send it as raw_input_contents"),
        ("BF16", {"fp32_contents": [1.0]}, "BF16, which has no typed contents"),
        (
            "FP32",
            {"fp64_contents": [1.0, 2.0]},
            "FP32 and has fp64_contents; its elements go into fp32_contents",
        ),
        ("INT64", {"int64_contents": [1, 2], "int_contents": [3]}, "has int_contents"),
        ("FP32", {"fp32_contents": [1.0]}, r"1 elements in fp32_contents; shape \[2\] needs 2"),
        ("FP32", {}, "0 elements in fp32_contents"),
        ("INT8", {"int_contents": [0, 128]}, "INT8 and holds 128; allowed are -128 to 127"),
        ("INT16", {"int_contents": [-40000, 0]}, "holds -40000; allowed are -32768"),
        ("UINT8", {"uint_contents": [256, 0]}, "holds 256; allowed are 0 to 255"),
        ("float", {}, "'float', which is not supported; allowed: BOOL"),
    ],
)
def test_what_does_not_fit_is_refused(dtype: str, fields: dict[str, list[Any]], words: str) -> None:
    with pytest.raises(TensorRejected, match=words):
        from_contents("input 'x'", dtype, [2], contents(**fields))
