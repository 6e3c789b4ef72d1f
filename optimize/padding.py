"""Single rows padded to one batch, and one row's answer taken out again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from headrace.tensors import Array, Signature, TensorMap


def stack(signature: Signature, rows: Sequence[TensorMap]) -> dict[str, Array]:
    """One batch of all rows, each padded behind to the largest of them with its input's own value."""
    batch: dict[str, Array] = {}
    for spec in signature.inputs:
        arrays = [row[spec.name] for row in rows]
        shape = np.max([array.shape[1:] for array in arrays], axis=0).astype(int)
        batch[spec.name] = np.full((len(arrays), *shape), spec.pad, arrays[0].dtype)
        for number, array in enumerate(arrays):
            batch[spec.name][_corner(number, array)] = array[0]
    return batch


def row_of(outputs: Mapping[str, Array], row: int, alone: Mapping[str, Array]) -> dict[str, Array]:
    """The answer of one row, without what answers its padding: cut to the shapes of `alone`."""
    return {name: outputs[name][_corner(row, array)] for name, array in alone.items()}


def _corner(row: int, array: Array) -> tuple[int | slice, ...]:
    """The part of a padded row that `array`, (1, ...), fills."""
    return (row, *(slice(size) for size in array.shape[1:]))
