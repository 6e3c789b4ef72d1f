"""Stage 1 of static INT8: calibration. Real inputs run through the model while ranges are watched.

Two passes: the first finds each tensor's least and largest value, the second counts values into a
histogram between them. The counts are saved as it goes, so that a run that was stopped goes on with
the next input.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from headrace.errors import ConfigRejected
from headrace.tensors import Array, TensorMap
from optimize.progress import Line

if TYPE_CHECKING:
    import onnx

BINS = 2048
_SAVE_EVERY = 16  # inputs
_FLOAT = 1  # onnx.TensorProto.FLOAT


@dataclass(slots=True)
class Statistics:
    """What was seen of each tensor: extremes, a histogram between them, and by column its largest size."""

    low: dict[str, float] = field(default_factory=dict)
    high: dict[str, float] = field(default_factory=dict)
    counts: dict[str, Array] = field(default_factory=dict)  # (BINS,) int64, from low to high
    columns: dict[str, Array] = field(default_factory=dict)  # largest absolute value along the last axis
    rows: int = 0  # inputs seen in this pass
    phase: int = 1  # 1: extremes, 2: histograms, 3: done
    inputs: int = 0  # in all, known after the first pass

    def save(self, path: Path) -> None:
        """In one file, put in place at once; no pickle."""
        arrays: dict[str, Array] = {"progress": np.array([self.rows, self.phase, self.inputs])}
        for kind in ("low", "high", "counts", "columns"):
            for name, value in getattr(self, kind).items():
                arrays[f"{kind}:{name}"] = np.asarray(value)
        temporary = path.with_name(f"{path.name}.new")
        with temporary.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)


def load_statistics(path: Path) -> Statistics:
    found = Statistics()
    with np.load(path, allow_pickle=False) as arrays:
        found.rows, found.phase, found.inputs = (int(number) for number in arrays["progress"])
        for entry in arrays.files:
            kind, _, name = entry.partition(":")
            if kind in ("low", "high"):
                getattr(found, kind)[name] = float(arrays[entry])
            elif kind in ("counts", "columns"):
                getattr(found, kind)[name] = arrays[entry]
    return found


def calibrate(
    graph: Path,
    inputs: Callable[[int], Iterable[TensorMap]],
    op_types: Sequence[str],
    checkpoint: Path,
    line: Line,
) -> Statistics:
    """Statistics of every FP32 tensor that goes into or comes out of an operator of `op_types`.

    `inputs(skip)` gives the calibration inputs after the first `skip`, the same ones each time. What
    an interrupted run had counted is taken from `checkpoint`.
    """
    found = load_statistics(checkpoint) if checkpoint.exists() else Statistics()
    run, names = _watched(graph, op_types)
    line.advance(found.rows + (found.phase - 1) * found.inputs)
    while found.phase <= 2:
        watch = _extremes if found.phase == 1 else _histogram
        for row in inputs(found.rows):
            for name, array in zip(names, run(row), strict=True):
                watch(found, name, array)
            found.rows += 1
            line.advance()
            if found.rows % _SAVE_EVERY == 0:
                found.save(checkpoint)
        found.inputs, found.rows, found.phase = found.rows, 0, found.phase + 1
        found.save(checkpoint)
    line.finish()
    return found


def _watched(
    graph: Path, op_types: Sequence[str]
) -> tuple[Callable[[TensorMap], Sequence[Array]], list[str]]:
    """A function that runs the graph and returns the watched tensors, and their names."""
    import onnx
    import onnxruntime

    model = onnx.load(graph)
    names = watched_tensors(model, op_types)
    if not names:
        raise ConfigRejected(f"the graph has no {', '.join(op_types)} on FP32 tensors to quantize")
    known = {value.name for value in model.graph.output}
    for name in names:
        if name not in known:
            model.graph.output.append(onnx.helper.make_tensor_value_info(name, _FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # sums in the same order every time
    options.log_severity_level = 3
    # Fusions would take the watched tensors away.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    data, weights = _in_memory(model, graph)
    if weights:
        options.add_external_initializers_from_files_in_memory(
            list(weights), list(weights.values()), [len(found) for found in weights.values()]
        )
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return lambda row: session.run(names, dict(row)), names


def _in_memory(model: onnx.ModelProto, graph: Path) -> tuple[bytes, dict[str, bytes]]:
    """The watched model's bytes; a model over protobuf's 2 GB keeps its weights in their files."""
    from optimize.graphs import files_of

    beside = [path for name, path in files_of(graph).items() if name != graph.name]
    if not beside or model.ByteSize() < 1_900_000_000:
        return model.SerializeToString(), {}
    raise ConfigRejected("static INT8 of a graph over 1.9 GB is not supported; use int8-dynamic")


def watched_tensors(model: onnx.ModelProto, op_types: Sequence[str]) -> list[str]:
    """The FP32 tensors, weights excluded, around the operators that are to be quantized."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model)
    values = (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output)
    floats = {value.name for value in values if value.type.tensor_type.elem_type == _FLOAT}
    constants = {tensor.name for tensor in model.graph.initializer}
    around = {
        name
        for node in model.graph.node
        if node.op_type in op_types
        for name in (*node.input, *node.output)
        if name in floats and name not in constants
    }
    return sorted(around)


def _extremes(found: Statistics, name: str, array: Array) -> None:
    if array.size == 0:
        return
    low, high = float(array.min()), float(array.max())
    if not np.isfinite([low, high]).all():
        raise ConfigRejected(
            f"tensor '{name}' becomes infinite or NaN on calibration input {found.rows}; leave that input out"
        )
    found.low[name] = min(found.low.get(name, low), low)
    found.high[name] = max(found.high.get(name, high), high)
    if array.ndim >= 2:
        largest = np.abs(array.reshape(-1, array.shape[-1])).max(axis=0)
        known = found.columns.get(name)
        if known is None:
            found.columns[name] = largest
        elif known.shape == largest.shape:
            found.columns[name] = np.maximum(known, largest)
        else:
            found.columns[name] = np.empty(0, array.dtype)  # a variable last dimension has no columns


def _histogram(found: Statistics, name: str, array: Array) -> None:
    low, high = found.low[name], found.high[name]
    counted = np.histogram(array, bins=BINS, range=(low, high if high > low else low + 1e-6))[0]
    found.counts[name] = found.counts.get(name, np.zeros(BINS, np.int64)) + counted
