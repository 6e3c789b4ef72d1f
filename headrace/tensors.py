"""Tensors by name: what a model takes and gives, and the check of arrays against it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from headrace.errors import TensorRejected

Array = npt.NDArray[Any]
TensorMap = Mapping[str, Array]
Dim = int | str  # a fixed size, or the name of a variable dimension

# Datatypes of the Open Inference Protocol; BYTES are numpy objects holding `bytes`.
DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(object),
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
FLOATS = frozenset({"FP16", "BF16", "FP32", "FP64"})  # numpy does not know that BF16 is one


def dtype_name(array: Array) -> str:
    """The protocol's name of an array's dtype; TensorRejected for one the protocol does not have."""
    if (name := _NAMES.get(array.dtype)) is not None:
        return name
    if array.dtype.kind in "SU":
        return "BYTES"
    try:
        return _NAMES[array.dtype.newbyteorder("=")]
    except KeyError as err:
        raise TensorRejected(
            f"numpy dtype {array.dtype} has no counterpart; allowed: {', '.join(DTYPES)}"
        ) from err


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output: a name, a protocol dtype and a shape.

    A string in `shape` names a variable dimension; the same name must have the same
    size in every input of a request. The first dimension called "batch" is the one that
    requests are stacked along. `low` and `high` bound integer values, both inclusive
    (token ids outside a vocabulary are a caller's mistake, not the engine's).
    """

    name: str
    dtype: str
    shape: tuple[Dim, ...]
    low: int | None = None
    high: int | None = None
    pad: int = 0  # what padding along a variable dimension is filled with

    @property
    def wire_shape(self) -> list[int]:
        """The shape as the protocol tells it: a variable dimension is -1."""
        return [dim if isinstance(dim, int) else -1 for dim in self.shape]

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise TensorRejected(
                f"tensor '{self.name}' has dtype {self.dtype!r}; allowed: {', '.join(DTYPES)}"
            )
        if (self.low, self.high) != (None, None) and "INT" not in self.dtype:
            raise TensorRejected(f"tensor '{self.name}' is {self.dtype}; only integers have bounds")


@dataclass(frozen=True, slots=True)
class Signature:
    """What a model takes and gives. `limits` is the largest size of each variable dimension."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    limits: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_batchable(self) -> bool:
        """True when every input and output starts with the dimension "batch"."""
        return all(spec.shape[:1] == ("batch",) for spec in (*self.inputs, *self.outputs))

    def check(self, inputs: TensorMap) -> dict[str, int]:
        """The sizes of the variable dimensions of `inputs`; TensorRejected when they do not fit."""
        sizes: dict[str, int] = {}
        for spec in self.inputs:
            if spec.name not in inputs:
                self._check_names(inputs)
            _check_tensor(spec, inputs[spec.name], sizes)
        if len(inputs) != len(self.inputs):
            self._check_names(inputs)
        for dim, size in sizes.items():
            limit = self.limits.get(dim)
            if limit is not None and size > limit:
                raise TensorRejected(f"dimension '{dim}' is {size}; the largest allowed is {limit}")
        for spec in self.inputs:
            _check_values(spec, inputs[spec.name])
        return sizes

    def _check_names(self, inputs: TensorMap) -> None:
        known = {spec.name for spec in self.inputs}
        if extra := sorted(set(inputs) - known):
            raise TensorRejected(f"unknown input {extra[0]!r}; this model takes {sorted(known)}")
        if missing := sorted(known - set(inputs)):
            raise TensorRejected(f"input '{missing[0]}' is missing; this model takes {sorted(known)}")

    def check_outputs(self, names: tuple[str, ...]) -> None:
        """TensorRejected when a requested output does not exist."""
        known = [spec.name for spec in self.outputs]
        for name in names:
            if name not in known:
                raise TensorRejected(f"unknown output {name!r}; this model gives {known}")


def _check_tensor(spec: TensorSpec, array: Array, sizes: dict[str, int]) -> None:
    got = dtype_name(array)
    if got != spec.dtype:
        raise TensorRejected(f"input '{spec.name}' is {got}; it must be {spec.dtype}")
    if array.ndim != len(spec.shape):
        raise TensorRejected(
            f"input '{spec.name}' has shape {list(array.shape)}; it must have {len(spec.shape)} "
            f"dimensions {list(spec.shape)}"
        )
    for dim, size in zip(spec.shape, array.shape, strict=True):
        wanted = dim if isinstance(dim, int) else sizes.setdefault(dim, size)
        if size != wanted:
            label = f"'{dim}' is {wanted} in another input" if isinstance(dim, str) else f"must be {dim}"
            raise TensorRejected(
                f"input '{spec.name}' has shape {list(array.shape)}, wanted {list(spec.shape)}: "
                f"the dimension of size {size} {label}"
            )


def _check_values(spec: TensorSpec, array: Array) -> None:
    if array.size == 0 or (spec.low is None and spec.high is None):
        return
    low, high = int(array.min()), int(array.max())
    if (spec.low is not None and low < spec.low) or (spec.high is not None and high > spec.high):
        raise TensorRejected(
            f"input '{spec.name}' holds values from {low} to {high}; allowed are {spec.low} to {spec.high}"
        )
