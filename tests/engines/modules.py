"""A torch module with two inputs and two outputs, and its compiled package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from engines.artifact import Artifact, unpublished
from headrace.tensors import Array, Signature, TensorSpec
from optimize.compiled import PACKAGE, compile_module

SIGNATURE = Signature(
    (TensorSpec("ids", "INT64", ("batch", "length")), TensorSpec("scale", "FP32", ("batch",))),
    (TensorSpec("sum", "FP32", ("batch",)), TensorSpec("same", "INT64", ("batch", "length"))),
    {"length": 64},
)
SHAPES = {"ids": {0: "batch", 1: "length"}, "scale": {0: "batch"}}


class Summing(torch.nn.Module):
    """The rows' sums of an embedding, times a scale; and what went in."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = torch.nn.Embedding(100, 4)
        self.head = torch.nn.Linear(4, 1)

    def forward(self, ids: torch.Tensor, scale: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = self.head(torch.relu(self.table(ids)).sum(1)).squeeze(1)
        return found * scale, ids


def inputs(rows: int, length: int, seed: int = 0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {
        "ids": rng.integers(0, 100, (rows, length)),
        "scale": rng.standard_normal(rows).astype(np.float32),
    }


def wanted(batch: dict[str, Array]) -> Array:
    with torch.no_grad():
        found: Array = Summing()(**{name: torch.tensor(array) for name, array in batch.items()})[0].numpy()
    return found


def compiled(folder: Path, engine: str = "aot", device: str = "cpu") -> Artifact:
    compile_module(Summing(), inputs(1, 3), SHAPES, "fp32", folder / PACKAGE, device)
    parts: dict[str, Any] = {"graph": PACKAGE, "signature": SIGNATURE, "engine": engine, "precision": "fp32"}
    return unpublished(folder, name="summing", version="1", warm_up=({"batch": 2, "length": 5},), **parts)
