"""A step of Python code for tests: a text to its letters' numbers, as many as it has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from headrace.tensors import Signature, TensorMap, TensorSpec

OFFSET = "offset.txt"


def signature() -> Signature:
    return Signature(
        (TensorSpec("text", "BYTES", ("batch",)),), (TensorSpec("x", "FP32", ("batch", "length")),)
    )


def files() -> list[Path]:
    return [Path(OFFSET)]


def load(folder: Path) -> Callable[[list[TensorMap]], list[TensorMap]]:
    offset = int((folder / OFFSET).read_text())

    def run(requests: list[TensorMap]) -> list[TensorMap]:
        return [{"x": _letters(request["text"].tolist(), offset)} for request in requests]

    return run


def _letters(texts: list[bytes], offset: int) -> np.ndarray:
    if b"bad" in texts:
        raise ValueError("'bad' is not a good word")
    if b"broken" in texts:
        raise RuntimeError("no caller's business")
    x = np.zeros((len(texts), max(map(len, texts))), np.float32)
    for number, text in enumerate(texts):
        x[number, : len(text)] = np.frombuffer(text, np.uint8) + offset
    return x
