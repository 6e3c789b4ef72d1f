"""MiniLM-L6 in FP32 as the benchmarks of the server take it."""

from __future__ import annotations

from pathlib import Path

from engines.artifact import Repository
from examples.minilm import graph

MODEL = "minilm"


def publish(root: Path, name: str = MODEL) -> None:
    Repository(root).publish(
        name,
        "1",
        {"model.onnx": graph.write(root / ".minilm.onnx")},
        graph="model.onnx",
        signature=graph.SIGNATURE,
        grouping="nearest",
    )
