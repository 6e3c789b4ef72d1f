"""Answers in half the room: what is FP32 is remembered, and from then on given, as FP16 holds it (pure)."""

from __future__ import annotations

import numpy as np

from cache.raw import freeze
from headrace.tensors import Array, Signature, TensorMap


class Halved:
    """Rounds the FP32 outputs of one signature. Answers of values that FP16 cannot hold stay as they are."""

    def __init__(self, signature: Signature) -> None:
        self._names = frozenset(spec.name for spec in signature.outputs if spec.dtype == "FP32")

    def narrow(self, outputs: TensorMap) -> TensorMap:
        """As they are to be kept."""
        return {name: _half(array) if name in self._names else array for name, array in outputs.items()}

    def widen(self, outputs: TensorMap) -> TensorMap:
        """As they are given: read-only, and the same bits whether just computed or remembered."""
        return freeze(
            {
                name: array.astype(np.float32) if name in self._names and array.dtype == np.float16 else array
                for name, array in outputs.items()
            }
        )


def _half(array: Array) -> Array:
    with np.errstate(over="ignore"):
        half: Array = array.astype(np.float16)
    return half if np.array_equal(np.isfinite(half), np.isfinite(array)) else array
