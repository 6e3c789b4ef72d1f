"""How alike two answers are, as directions."""

from __future__ import annotations

import numpy as np

from headrace.tensors import Array


def cosines(first: Array, second: Array) -> Array:
    """The cosine of each row of `first` with that of `second`, both (rows, numbers) of FP64; (rows,).

    Two rows of zeros are alike: 1; one row of zeros is like no other: 0.
    """
    scale = np.sqrt(np.einsum("ij,ij->i", first, first) * np.einsum("ij,ij->i", second, second))
    found = np.einsum("ij,ij->i", first, second) / np.where(scale == 0, 1.0, scale)
    if not scale.all():
        found = np.where(scale == 0, (first == second).all(axis=1), found)
    clipped: Array = np.clip(found, -1.0, 1.0)
    return clipped


def cosine(first: Array, second: Array) -> float:
    """The same of two rows, (numbers,) each."""
    return float(cosines(first[None], second[None])[0])
