"""INT8 graphs as TensorRT takes them, of models of usual sizes; their plans by RTX, which needs no GPU."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import onnx

from engines.artifact import Artifact, unpublished
from engines.plans import Plans
from engines.trt_library import RTX, find
from optimize import quantize
from optimize.calibrate import calibrate
from optimize.plans import Built, build_plans
from optimize.prepare import read_calibration, read_signature, write_model
from optimize.progress import Line
from optimize.quantize import Conversion
from optimize.ranges import determine
from optimize.recipe import load_recipe

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
ARCHITECTURES = ("8.0", "8.9", "12.0")
_CALIBRATION = 8  # inputs: whether a plan can be built does not depend on them
_GRAPH = "model.onnx"


@dataclass(frozen=True, slots=True)
class Plan:
    """What came of one model."""

    layers: int  # in INT8
    of: int
    built: list[Built]
    seconds: float  # of all of them


def int8(example: str, folder: Path) -> tuple[Artifact, int, int]:
    """The example's model in INT8 with symmetric Q/DQ; how many of its layers are, of how many."""
    recipe = load_recipe(EXAMPLES / example / "recipe.py")
    source = folder / write_model(recipe, folder)
    signature = read_signature(recipe, source)
    prepared, made = folder / "prepared.onnx", folder / "int8"
    quantize.preprocess(source, prepared)
    types = quantize.op_types(onnx.load(prepared, load_external_data=False).graph)
    found = calibrate(
        prepared,
        lambda skip: islice(read_calibration(recipe, signature, skip), _CALIBRATION),
        types,
        folder / "calibration.npz",
        Line(None, ""),
    )
    how = Conversion(is_symmetric=True, quantizes_bias=False)
    made.mkdir()
    layers, of = quantize.convert(prepared, made / _GRAPH, determine(found, "minmax", True), how)
    artifact = unpublished(
        made,
        name=example,
        version="1",
        graph=_GRAPH,
        signature=signature,
        engine="tensorrt",
        precision="int8-static",
    )
    return artifact, layers, of


def plan(example: str, folder: Path) -> Plan:
    """Its plans for several architectures, each with several profiles."""
    artifact, layers, of = int8(example, folder)
    started = time.perf_counter()
    built = build_plans(artifact, find(RTX), Plans(folder / "plans"), ARCHITECTURES, max_batch=8)
    return Plan(layers, of, built, time.perf_counter() - started)
