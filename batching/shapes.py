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


def can_pad(signature: Signature) -> bool:
    """True when padded answers can be cut back: every variable output dimension is one of the inputs'."""
    given = {dim for spec in signature.inputs for dim in spec.shape}
    wanted = {dim for spec in signature.outputs for dim in spec.shape if isinstance(dim, str)}
    return signature.is_batchable and wanted <= given


def stack(signature: Signature, requests: Sequence[TensorMap]) -> tuple[dict[str, Array], float]:
    """One batch of all `requests`, padded to the largest of each variable dimension, and its fill.

    The fill is the number of useful elements divided by the number of all elements. A single
    request is handed on without a copy.
    """
    if len(requests) == 1:
        return dict(requests[0]), 1.0
    batch: dict[str, Array] = {}
    useful = total = 0
    for spec in signature.inputs:
        arrays = [request[spec.name] for request in requests]
        stacked = _stack_tensor(spec, arrays)
        useful += sum(array.size for array in arrays)
        total += stacked.size
        batch[spec.name] = stacked
    return batch, useful / total if total else 1.0


def _stack_tensor(spec: TensorSpec, arrays: Sequence[Array]) -> Array:
    tails = {array.shape[1:] for array in arrays}
    if len(tails) == 1:
        return np.concatenate(arrays)
    rows = sum(array.shape[0] for array in arrays)
    tail = tuple(max(sizes) for sizes in zip(*tails, strict=True))
    fill: Any = b"" if arrays[0].dtype == object else spec.pad
    stacked = np.full((rows, *tail), fill, dtype=arrays[0].dtype)
    start = 0
    for array in arrays:
        window = (slice(start, start + array.shape[0]), *(slice(size) for size in array.shape[1:]))
        stacked[window] = array
        start += array.shape[0]
    return stacked


def split(
    signature: Signature, outputs: TensorMap, rows: Sequence[int], sizes: Sequence[Sizes]
) -> list[dict[str, Array]]:
    """The outputs of each request, padding cut away: views into the batch's outputs, no copies."""
    if len(rows) == 1:
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
    tail = (slice(sizes[dim]) if isinstance(dim, str) else slice(None) for dim in spec.shape[1:])
    return (slice(start, start + rows), *tail)
