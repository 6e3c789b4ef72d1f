"""What INT8 costs, told without labels: outputs on calibration inputs against the original's.

`tune` picks the settings that cost least; `rank` says what each layer costs when it alone is INT8, so
that the worst can be left in FP32.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from headrace.likeness import cosine
from headrace.tensors import Array, TensorMap
from optimize.calibrate import Statistics
from optimize.progress import Line
from optimize.quantize import Conversion, convert, layers
from optimize.ranges import Method, determine


class Reference:
    """The original's outputs on some inputs; `error` is what a graph's outputs are away from them."""

    def __init__(self, graph: Path, rows: Sequence[TensorMap]) -> None:
        self._rows = rows
        self._wanted = _outputs(graph, rows)

    def error(self, graph: Path) -> float:
        """1 - cosine, the mean over inputs."""
        found = _outputs(graph, self._rows)
        return float(
            np.mean([1 - cosine(first, second) for first, second in zip(self._wanted, found, strict=True)])
        )


def error_of(reference: Reference, source: Path, found: Statistics, method: Method, how: Conversion) -> float:
    """What one way to quantize a preprocessed graph costs."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "quantized.onnx")
        convert(source, target, determine(found, method, how.is_symmetric), how)
        return reference.error(target)


def rank(
    reference: Reference, source: Path, found: Statistics, method: Method, how: Conversion, line: Line
) -> list[tuple[str, str, float]]:
    """(name, operator, error) of every layer quantized alone, worst first."""
    import onnx

    nodes = [(node.name, node.op_type) for node in layers(onnx.load(source).graph)]
    errors = []
    for name, kind in nodes:
        error = error_of(reference, source, found, method, replace(how, only=(name,), exclude=()))
        errors.append((name, kind, error))
        line.advance()
    line.finish()
    return sorted(errors, key=lambda entry: (-entry[2], entry[0]))


def _outputs(graph: Path, rows: Sequence[TensorMap]) -> list[Array]:
    """All outputs of each input in one row of numbers."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    answers = (session.run(None, dict(row)) for row in rows)
    return [np.concatenate([part.ravel().astype(np.float64) for part in answer]) for answer in answers]


def least(errors: Mapping[str, float]) -> str:
    """The key of the least error; of equal ones the first."""
    return min(errors, key=lambda name: errors[name])
