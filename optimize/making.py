"""Jobs that make one graph out of another: INT8 in its stages, and half precision."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import onnx

from headrace.errors import ConfigRejected
from headrace.tensors import TensorMap
from optimize import quantize
from optimize.calibrate import Statistics, load_statistics
from optimize.calibrate import calibrate as watch
from optimize.prepare import read_calibration, some_calibration
from optimize.progress import Line
from optimize.quantize import Conversion
from optimize.ranges import determine
from optimize.rooms import TUNED_ON, Room
from optimize.sensitivity import Reference, error_of, least, rank
from optimize.smooth import smooth as smoothed

_STATISTICS = "statistics.npz"


def preprocess(room: Room) -> dict[str, Any]:
    target = room.new_graph()
    quantize.preprocess(room.graph(), target)
    graph = onnx.load(target, load_external_data=False).graph
    return {
        "graph": target.name,
        "layers": len(quantize.layers(graph)),
        "products": sum(node.op_type == "MatMul" for node in quantize.layers(graph)),
        "depthwise": quantize.depthwise(graph),
    }


def calibrate(room: Room) -> dict[str, Any]:
    """Statistics of every calibration input, in a file beside the result."""
    found = _calibrated(room, room.graph(), room.checkpoints() / _STATISTICS, room.line("inputs, twice"))
    found.save(room.folder / _STATISTICS)
    return {"rows": found.inputs, "tensors": len(found.low)}


def smooth(room: Room) -> dict[str, Any]:
    target = room.new_graph()
    count = smoothed(room.graph(), target, _statistics(room), room.options["alpha"])
    return {"graph": target.name, "smoothed": count}


def tune(room: Room) -> dict[str, Any]:
    """Of the ways to determine ranges, the one whose outputs are nearest to the original's."""
    tried = [
        (method, Conversion(room.options["per_channel"], room.options["is_symmetric"], reduce_range))
        for method in room.options["methods"]
        for reduce_range in room.options["reduce_ranges"]
    ]
    reference, found = _reference(room), _statistics(room)
    line = room.line("", len(tried))
    errors = {}
    for method, how in tried:
        label = f"{method}, weights in {7 if how.reduce_range else 8} bits"
        errors[label] = error_of(reference, room.graph(), found, method, how)
        line.advance()
    best = tried[list(errors).index(least(errors))]
    return {"method": best[0], "reduce_range": best[1].reduce_range, "errors": errors}


def tune_smooth(room: Room) -> dict[str, Any]:
    """SmoothQuant's alpha whose outputs are nearest to the original's, each alpha calibrated anew."""
    reference, found = _reference(room), _statistics(room)
    how = Conversion(room.options["per_channel"], room.options["is_symmetric"], room.options["reduce_range"])
    line = room.line("", len(room.options["alphas"]))
    errors = {}
    for alpha in room.options["alphas"]:
        with tempfile.TemporaryDirectory() as folder:
            graph = Path(folder, "smooth.onnx")
            if not smoothed(room.graph(), graph, found, alpha):
                raise ConfigRejected("the graph has no MatMul with constant weights that could be smoothed")
            seen = _calibrated(room, graph, Path(folder, _STATISTICS), Line(None, ""), TUNED_ON)
            errors[str(alpha)] = error_of(reference, graph, seen, room.options["method"], how)
        line.advance()
    return {"alpha": float(least(errors)), "errors": errors}


def static(room: Room) -> dict[str, Any]:
    """Ranges determined, and the Q/DQ graph made of them."""
    from optimize.precision import to_half

    options = dict(room.options)
    method, rest = options.pop("method"), options.pop("rest")
    how = Conversion(**{**options, "exclude": tuple(options["exclude"])})
    ranges = determine(_statistics(room), method, how.is_symmetric)
    target = room.new_graph()
    quantized, layers = quantize.convert(room.graph(), target, ranges, how)
    if rest != "fp32":
        to_half(target, target, rest)
    return {"graph": target.name, "quantized": quantized, "layers": layers, "how": asdict(how)}


def float8(room: Room) -> dict[str, Any]:
    """Ranges of what was seen, and the FP8 graph made of them."""
    from optimize.float8 import convert_to_fp8
    from optimize.precision import to_half

    target = room.new_graph()
    ranges = determine(_statistics(room), "minmax", is_symmetric=True)
    quantized, layers = convert_to_fp8(room.graph(), target, ranges, room.options["per_channel"])
    if room.options["rest"] != "fp32":
        to_half(target, target, room.options["rest"])
    return {"graph": target.name, "quantized": quantized, "layers": layers}


def sensitivity(room: Room) -> dict[str, Any]:
    how = Conversion(room.options["per_channel"], room.options["is_symmetric"], room.options["reduce_range"])
    total = len(quantize.layers(onnx.load(room.graph(), load_external_data=False).graph))
    ranked = rank(
        _reference(room), room.graph(), _statistics(room), room.options["method"], how, room.line("", total)
    )
    return {"layers": ranked}


def dynamic(room: Room) -> dict[str, Any]:
    line = room.line("", 1)
    target = room.new_graph()
    quantize.quantize_dynamic(room.graph(), target, room.options["per_channel"], room.options["reduce_range"])
    line.advance()
    return {"graph": target.name}


def precision(room: Room) -> dict[str, Any]:
    """Half precision for an engine that computes it, or for storage only."""
    from optimize.precision import store_fp16, to_half

    line = room.line("", 1)
    target = room.new_graph()
    if room.options["is_stored_only"]:
        store_fp16(room.graph(), target)
    else:
        to_half(room.graph(), target, room.options["to"])
    line.advance()
    return {"graph": target.name}


def _statistics(room: Room) -> Statistics:
    return load_statistics(room.inputs["statistics"] / _STATISTICS)


def _reference(room: Room) -> Reference:
    """The unquantized model's answers to the first calibration inputs."""
    return Reference(room.graph("reference"), some_calibration(room.recipe, room.signature(), TUNED_ON))


def _calibrated(
    room: Room, graph: Path, checkpoint: Path, line: Line, count: int | None = None
) -> Statistics:
    signature = room.signature()
    types = quantize.op_types(onnx.load(graph, load_external_data=False).graph)

    def inputs(skip: int) -> Iterable[TensorMap]:
        return islice(read_calibration(room.recipe, signature, skip), count)

    return watch(graph, inputs, types, checkpoint, line)
