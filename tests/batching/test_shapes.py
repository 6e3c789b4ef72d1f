"""Stacking and splitting are inverse, and padding is cut away."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batching.shapes import bucket_of, can_pad, elements, largest, split, stack
from headrace.errors import EngineFailed
from headrace.tensors import Signature, TensorSpec

TEXT = Signature(
    inputs=(
        TensorSpec("ids", "INT64", ("batch", "length")),
        TensorSpec("mask", "INT64", ("batch", "length"), pad=0),
    ),
    outputs=(
        TensorSpec("states", "FP32", ("batch", "length", 3)),
        TensorSpec("pooled", "FP32", ("batch", 2)),
    ),
)


def request(rows: int, length: int) -> dict[str, np.ndarray]:
    ids = np.arange(1, rows * length + 1, dtype=np.int64).reshape(rows, length)
    return {"ids": ids, "mask": np.ones((rows, length), np.int64)}


def echo(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """States that repeat each id thrice, and a pooled sum that the mask makes independent of padding."""
    states = np.repeat(batch["ids"][:, :, None], 3, axis=2).astype(np.float32)
    total = (batch["ids"] * batch["mask"]).sum(axis=1)
    return {"states": states, "pooled": np.stack([total, -total], axis=1).astype(np.float32)}


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 9)), min_size=1, max_size=6))
def test_each_request_gets_what_it_would_get_alone(shapes: list[tuple[int, int]]) -> None:
    requests = [request(rows, length) for rows, length in shapes]
    sizes = [{"batch": rows, "length": length} for rows, length in shapes]
    padded = largest(sizes)
    batch = stack(TEXT, requests, padded)
    answers = split(TEXT, echo(batch), [rows for rows, _ in shapes], sizes, padded)
    for one, answer in zip(requests, answers, strict=True):
        alone = echo(one)
        assert {name: array.shape for name, array in answer.items()} == {
            name: array.shape for name, array in alone.items()
        }
        assert all(np.array_equal(answer[name], alone[name]) for name in alone)


def test_a_single_request_is_not_copied() -> None:
    one = request(2, 5)
    batch = stack(TEXT, [one], {"batch": 2, "length": 5})
    assert batch["ids"] is one["ids"]


def test_a_single_request_is_padded_to_its_bucket_and_cut_back() -> None:
    sizes = [{"batch": 2, "length": 5}]
    bucket = bucket_of(sizes[0], [{"length": 4}, {"length": 8}])
    assert bucket == {"batch": 2, "length": 8}
    batch = stack(TEXT, [request(2, 5)], bucket)
    assert batch["ids"].shape == (2, 8)
    (answer,) = split(TEXT, echo(batch), [2], sizes, bucket)
    assert np.array_equal(answer["states"], echo(request(2, 5))["states"])


def test_no_bucket_holds_what_is_larger_than_all() -> None:
    assert bucket_of({"batch": 1, "length": 9}, [{"length": 4}, {"length": 8}]) is None
    assert bucket_of({"batch": 1, "length": 9, "height": 3}, [{"length": 16}]) == {
        "batch": 1,
        "length": 16,
        "height": 3,
    }


def test_padding_uses_the_value_of_the_spec_and_empty_bytes_for_text() -> None:
    signature = Signature(
        (
            TensorSpec("ids", "INT64", ("batch", "length"), pad=7),
            TensorSpec("words", "BYTES", ("batch", "length")),
        ),
        (TensorSpec("y", "FP32", ("batch",)),),
    )
    short = {"ids": np.ones((1, 1), np.int64), "words": np.array([[b"a"]], dtype=object)}
    long = {"ids": np.ones((1, 2), np.int64), "words": np.array([[b"a", b"b"]], dtype=object)}
    batch = stack(signature, [short, long], {"batch": 1, "length": 2})
    assert batch["ids"].tolist() == [[1, 7], [1, 1]]
    assert batch["words"].tolist() == [[b"a", b""], [b"a", b"b"]]


def test_padding_is_refused_when_an_output_cannot_be_cut_back() -> None:
    inputs = (TensorSpec("x", "FP32", ("batch", "width")),)
    assert can_pad(Signature(inputs, (TensorSpec("y", "FP32", ("batch", "width")),)))
    assert not can_pad(Signature(inputs, (TensorSpec("y", "FP32", ("batch", "steps")),)))
    assert not can_pad(Signature((TensorSpec("x", "FP32", (1, "width")),), (TensorSpec("y", "FP32", (1,)),)))


def test_an_output_whose_rows_are_not_the_batchs_is_an_error() -> None:
    sizes = [{"batch": 1, "length": 2}] * 2
    with pytest.raises(EngineFailed, match="has 1 rows for a batch of 2"):
        split(TEXT, {"pooled": np.zeros((1, 2), np.float32)}, [1, 1], sizes, sizes[0])


def test_elements_counts_one_row() -> None:
    assert elements(TEXT.inputs, {"batch": 5, "length": 4}) == 8
