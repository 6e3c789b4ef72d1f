"""Arrays are checked against what a model takes, and the message says how to mend them."""

import numpy as np
import pytest

from headrace.errors import TensorRejected
from headrace.tensors import DTYPES, Signature, TensorSpec, dtype_name

SIGNATURE = Signature(
    (
        TensorSpec("ids", "INT64", ("batch", "length"), low=0, high=9),
        TensorSpec("mask", "INT64", ("batch", "length")),
        TensorSpec("scale", "FP32", ("batch", 2)),
    ),
    (TensorSpec("y", "FP32", ("batch",)),),
    {"length": 4},
)


def inputs(rows: int = 2, length: int = 3) -> dict[str, np.ndarray]:
    return {
        "ids": np.zeros((rows, length), np.int64),
        "mask": np.ones((rows, length), np.int64),
        "scale": np.ones((rows, 2), np.float32),
    }


def test_fitting_inputs_give_the_sizes_of_the_variable_dimensions() -> None:
    assert SIGNATURE.check(inputs()) == {"batch": 2, "length": 3}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"extra": np.zeros(1)}, "unknown input 'extra'"),
        ({"mask": None}, "input 'mask' is missing"),
        ({"ids": np.zeros((2, 3), np.int32)}, "is INT32; it must be INT64"),
        ({"ids": np.zeros((2, 3, 1), np.int64)}, "must have 2 dimensions"),
        ({"mask": np.ones((2, 4), np.int64)}, "'length' is 3 in another input"),
        ({"scale": np.ones((2, 5), np.float32)}, "must be 2"),
        ({"scale": np.ones((3, 2), np.float32)}, "'batch' is 2 in another input"),
        ({"ids": np.full((2, 3), 10, np.int64)}, "values from 10 to 10; allowed are 0 to 9"),
        ({"ids": np.full((2, 3), -1, np.int64)}, "allowed are 0 to 9"),
    ],
)
def test_what_does_not_fit_is_said(change: dict[str, np.ndarray | None], told: str) -> None:
    given = {name: array for name, array in {**inputs(), **change}.items() if array is not None}
    with pytest.raises(TensorRejected, match=told):
        SIGNATURE.check(given)


def test_a_dimension_over_its_limit_is_refused() -> None:
    with pytest.raises(TensorRejected, match="'length' is 5; the largest allowed is 4"):
        SIGNATURE.check(inputs(length=5))


@pytest.mark.parametrize("dtype", ["FP32", "BOOL", "BYTES"])
def test_only_integers_have_bounds(dtype: str) -> None:
    with pytest.raises(TensorRejected, match="only integers have bounds"):
        TensorSpec("x", dtype, ("batch",), low=0)


def test_an_unknown_output_is_refused() -> None:
    SIGNATURE.check_outputs(("y",))
    with pytest.raises(TensorRejected, match="unknown output 'z'"):
        SIGNATURE.check_outputs(("y", "z"))


def test_only_a_leading_batch_dimension_everywhere_makes_a_model_batchable() -> None:
    assert SIGNATURE.is_batchable
    assert not Signature(SIGNATURE.inputs, (TensorSpec("y", "FP32", (1,)),)).is_batchable


@pytest.mark.parametrize("name", DTYPES)
def test_every_protocol_dtype_has_its_numpy_counterpart(name: str) -> None:
    assert dtype_name(np.zeros(1, DTYPES[name])) == name


def test_a_dtype_the_protocol_lacks_is_refused() -> None:
    with pytest.raises(TensorRejected, match="complex128"):
        dtype_name(np.zeros(1, np.complex128))
