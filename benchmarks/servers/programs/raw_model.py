"""The model as all other servers run it: the bytes of a row in, the bytes of its answer out.

It needs numpy and onnxruntime only, since it runs in environments of many servers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

VARIABLE = "BENCHMARK_WIRE"  # names the JSON file that a server's program reads its Wire from


@dataclass(frozen=True)
class Wire:
    """How a row is written as bytes, and how the engine is to be set up."""

    graph: str  # the ONNX file
    tensor: str
    dtype: str  # of the input, as numpy names it
    shape: tuple[int, ...]  # of one row; -1 where it varies
    mask: str  # input of ones where a row has values; empty: rows of unlike shapes cannot be stacked
    output: str
    threads: int
    batch: int  # rows at most; 1: no batching
    is_tuned: bool  # False: the engine's defaults, as one writes it down first
    disabled_optimizers: tuple[str, ...] = ()

    @staticmethod
    def from_environment() -> Wire:
        entries: dict[str, Any] = json.loads(Path(os.environ[VARIABLE]).read_bytes())
        for key in ("shape", "disabled_optimizers"):
            entries[key] = tuple(entries[key])
        return Wire(**entries)


class RawModel:
    """One engine session."""

    def __init__(self, wire: Wire) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = wire.threads
        disabled: list[str] = []
        if wire.is_tuned:
            options.inter_op_num_threads = 1
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            options.enable_mem_pattern = -1 not in wire.shape
            disabled = list(wire.disabled_optimizers)
        self._wire = wire
        self._session = onnxruntime.InferenceSession(
            wire.graph, options, providers=["CPUExecutionProvider"], disabled_optimizers=disabled
        )

    def read(self, body: bytes) -> Any:
        return np.frombuffer(body, self._wire.dtype).reshape(self._wire.shape)

    def answer(self, bodies: Sequence[bytes]) -> list[bytes]:
        return self.run([self.read(body) for body in bodies])

    def run(self, rows: Sequence[Any]) -> list[bytes]:
        """An answer for each row: padded to the longest with a mask, else one call for each shape."""
        if self._wire.mask:
            return self._padded(rows)
        answers = [b""] * len(rows)
        shapes: dict[tuple[int, ...], list[int]] = {}
        for number, row in enumerate(rows):
            shapes.setdefault(row.shape, []).append(number)
        for numbers in shapes.values():
            found = self._call({self._wire.tensor: np.stack([rows[number] for number in numbers])})
            for number, answer in zip(numbers, found, strict=True):
                answers[number] = answer
        return answers

    def _padded(self, rows: Sequence[Any]) -> list[bytes]:
        if len(rows) == 1:
            batch = rows[0][None]
            return self._call({self._wire.tensor: batch, self._wire.mask: np.ones_like(batch)})
        longest = max(len(row) for row in rows)
        batch = np.zeros((len(rows), longest), self._wire.dtype)
        mask = np.zeros_like(batch)
        for number, row in enumerate(rows):
            batch[number, : len(row)] = row
            mask[number, : len(row)] = 1
        return self._call({self._wire.tensor: batch, self._wire.mask: mask})

    def _call(self, inputs: dict[str, Any]) -> list[bytes]:
        (found,) = self._session.run([self._wire.output], inputs)
        return [row.tobytes() for row in found]
