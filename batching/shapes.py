"""Which requests may share a batch, and how they are stacked and taken apart again (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from headrace.errors import EngineFailed
from headrace.tensors import Array, Signature, TensorMap, TensorSpec

Sizes = Mapping[str, int]  # of the variable dimensions, as Signature.check gives them


def elements(specs: Sequence[TensorSpec], sizes: Sizes) -> int:
    """The number of elements that one row of `specs` has at these sizes, the batch dimension left out."""
    return sum(_row_size(spec, sizes) for spec in specs)


def _row_size(spec: TensorSpec, sizes: Sizes) -> int:
    count = 1
    for dim in spec.shape[1:]:
        count *= dim if isinstance(dim, int) else sizes[dim]
    return count


def tail(sizes: Sizes) -> tuple[int, ...]:
    """The sizes of a row, by which equal shapes are told from others."""
    return tuple(size for dim, size in sizes.items() if dim != "batch")


def bucket_of(sizes: Sizes, buckets: Sequence[Sizes]) -> Sizes | None:
    """The first of `buckets` that holds a row of these sizes, None when none does.

    What a bucket does not name is as large as the request has it.
    """
    for bucket in buckets:
        if all(sizes[dim] <= size for dim, size in bucket.items() if dim in sizes):
            return {dim: bucket.get(dim, size) for dim, size in sizes.items()}
    return None


def largest(sizes: Sequence[Sizes]) -> Sizes:
    """The sizes of the smallest row that holds every one of them."""
    if len(sizes) == 1:
        return sizes[0]
    return {dim: max(size[dim] for size in sizes) for dim in sizes[0]}


def can_pad(signature: Signature) -> bool:
    """True when padded answers can be cut back: every variable output dimension is one of the inputs'."""
    given = {dim for spec in signature.inputs for dim in spec.shape}
    wanted = {dim for spec in signature.outputs for dim in spec.shape if isinstance(dim, str)}
    return signature.is_batchable and wanted <= given


def stack(signature: Signature, requests: Sequence[TensorMap], sizes: Sizes) -> dict[str, Array]:
    """One batch of all `requests`, padded to rows of `sizes`.

    A single request that has these sizes already is handed on without a copy.
    """
    return {
        spec.name: _stack_tensor(spec, [request[spec.name] for request in requests], sizes)
        for spec in signature.inputs
    }


def _stack_tensor(spec: TensorSpec, arrays: Sequence[Array], sizes: Sizes) -> Array:
    row = tuple(dim if isinstance(dim, int) else sizes[dim] for dim in spec.shape[1:])
    if all(array.shape[1:] == row for array in arrays):
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    rows = sum(array.shape[0] for array in arrays)
    fill: Any = b"" if arrays[0].dtype == object else spec.pad
    stacked = np.full((rows, *row), fill, dtype=arrays[0].dtype)
    start = 0
    for array in arrays:
        window = (slice(start, start + array.shape[0]), *(slice(size) for size in array.shape[1:]))
        stacked[window] = array
        start += array.shape[0]
    return stacked


def split(
    signature: Signature, outputs: TensorMap, rows: Sequence[int], sizes: Sequence[Sizes], padded: Sizes
) -> list[dict[str, Array]]:
    """The outputs of each request, the padding to `padded` cut away: views into the batch's outputs."""
    if len(rows) == 1 and tail(sizes[0]) == tail(padded):
        return [dict(outputs)]
    for name, array in outputs.items():
        if array.shape[0] != sum(rows):
            raise EngineFailed(
                f"output '{name}' has {array.shape[0]} rows for a batch of {sum(rows)}: its first dimension "
                "is not the batch; correct the signature"
            )
    specs = {spec.name: spec for spec in signature.outputs}
    answers: list[dict[str, Array]] = []
    start = 0
    for count, size in zip(rows, sizes, strict=True):
        answers.append(
            {name: array[_window(specs[name], start, count, size)] for name, array in outputs.items()}
        )
        start += count
    return answers


def _window(spec: TensorSpec, start: int, rows: int, sizes: Sizes) -> tuple[slice, ...]:
    # A size that no input has is the model's own, and the same for rows of one shape: nothing is padded then.
    tail = (slice(sizes.get(dim) if isinstance(dim, str) else None) for dim in spec.shape[1:])
    return (slice(start, start + rows), *tail)
