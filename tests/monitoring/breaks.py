"""A model in Python that fails on what is negative."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from headrace.tensors import Signature, TensorMap, TensorSpec


def signature() -> Signature:
    return Signature(
        (TensorSpec("x", "FP32", ("batch", 4)),),
        (TensorSpec("y", "FP32", ("batch", 4)),),
    )


def load(_: Path) -> Callable[[list[TensorMap]], Sequence[TensorMap]]:
    def run(requests: list[TensorMap]) -> list[TensorMap]:
        if any((request["x"] < 0).any() for request in requests):
            raise RuntimeError("the model cannot take that")
        return [{"y": request["x"]} for request in requests]

    return run
