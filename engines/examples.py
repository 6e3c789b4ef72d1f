"""Made-up inputs that fit a signature: for warming up, and for tests."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from headrace.tensors import DTYPES, FLOATS, Array, Signature, TensorSpec


def example_inputs(
    signature: Signature, sizes: Mapping[str, int], seed: int | None = None
) -> dict[str, Array]:
    """Inputs with the given sizes of variable dimensions (1 where none is given).

    Without a seed: ones where the highest allowed value is 1 (a mask), else the lowest allowed
    value or zero. With a seed: random values within the bounds.
    """
    random = None if seed is None else np.random.default_rng(seed)
    return {spec.name: _example(spec, sizes, random) for spec in signature.inputs}


def _example(spec: TensorSpec, sizes: Mapping[str, int], random: np.random.Generator | None) -> Array:
    shape = tuple(dim if isinstance(dim, int) else sizes.get(dim, 1) for dim in spec.shape)
    dtype = DTYPES[spec.dtype]
    if spec.dtype == "BYTES":
        return np.full(shape, b"", dtype)
    low = spec.low or 0
    if random is None:
        return np.full(shape, 1 if spec.high == 1 else low, dtype)
    if spec.dtype in FLOATS:
        return random.standard_normal(shape).astype(dtype)
    high = spec.high if spec.high is not None else low + 1
    return random.integers(low, high, shape, endpoint=True).astype(dtype)
