"""Does `headrace baseline check` fail a slowed build, and pass an unchanged one each time?

    python -m benchmarks.baselines --json out/baselines.json

Builds of one network: as it is, a copy of it, and one with more layers that multiply by the identity: real
work, and the same answers. The checks run on the machine as it is, whatever else that does.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

from benchmarks.figures import Figure, arguments, finish, middle
from engines.artifact import Repository
from headrace.tensors import Signature, TensorSpec
from rollout.check import Check, check, record
from rollout.check_report import in_words

MODEL = "layers"
PRESENT, COPY, SLOWED = "1", "2", "3"
LAYERS = 16
WIDTH = 256
MORE = (2.0, 0.5, 4.0, 0.25)  # beside LAYERS: 25% more work, and together they change no bit of an answer
CHECK_S = 12.0  # of one check, at most; starting its processes comes on top
UNCHANGED, SLOW = 50, 20  # checks


@dataclass(frozen=True, slots=True)
class Tried:
    """One check and what it took."""

    found: Check
    took_s: float

    @property
    def has_failed(self) -> bool:
        return bool(self.found.regressions)


def network(scales: Sequence[float] = ()) -> bytes:
    """A graph of matrix products, x -> y. For each of the scales one more, by the identity times it.

    Those matrices are made when the graph is loaded, so that the file is as small as without them.
    """
    random = np.random.default_rng(0)
    weights = [random.standard_normal((WIDTH, WIDTH)) / np.sqrt(WIDTH) for _ in range(LAYERS)]
    factors = {f"w{number}": weight.astype(np.float32) for number, weight in enumerate(weights)}
    constants = dict(factors)
    nodes = []
    if scales:
        constants["side"] = np.array([WIDTH, WIDTH], np.int64)
        nodes += [
            helper.make_node("ConstantOfShape", ["side"], ["zeros"]),
            helper.make_node("EyeLike", ["zeros"], ["identity"], dtype=TensorProto.FLOAT),
        ]
    for number, scale in enumerate(scales):
        constants[f"scale{number}"] = np.array(scale, np.float32)
        nodes.append(helper.make_node("Mul", ["identity", f"scale{number}"], [f"i{number}"]))
    given = "x"
    for factor in [*factors, *(f"i{number}" for number in range(len(scales)))]:
        nodes.append(helper.make_node("MatMul", [given, factor], [f"{factor}_product"]))
        nodes.append(helper.make_node("Relu", [f"{factor}_product"], [f"{factor}_out"]))
        given = f"{factor}_out"
    nodes.append(helper.make_node("Identity", [given], ["y"]))
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", WIDTH]) for name in "xy"]
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "layers", values[:1], values[1:], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def publish_builds(root: Path) -> Repository:
    """Version 1, its copy, and the slowed build; the first has a baseline."""
    repository = Repository(root)
    signature = Signature(
        (TensorSpec("x", "FP32", ("batch", WIDTH)),), (TensorSpec("y", "FP32", ("batch", WIDTH)),)
    )
    graphs = {PRESENT: network(), COPY: network(), SLOWED: network(MORE)}
    for version, graph in graphs.items():
        parent = None if version == PRESENT else PRESENT
        files: dict[str, Path | bytes] = {"model.onnx": graph}
        repository.publish(MODEL, version, files, graph="model.onnx", signature=signature, parent=parent)
    record(repository, MODEL, PRESENT, seconds=1.0)
    return repository


def checks(repository: Repository, version: str, number: int, console: Console | None = None) -> list[Tried]:
    """So many checks of a version against the first one."""
    tried = []
    for turn in range(number):
        began = time.monotonic()
        found = check(repository, MODEL, version, against=PRESENT, seconds=CHECK_S)
        tried.append(Tried(found, time.monotonic() - began))
        if console is not None:
            console.print(
                f"{turn + 1}/{number}, {tried[-1].took_s:.1f} s: {in_words(found)}", highlight=False
            )
    return tried


def figures(unchanged: Sequence[Tried], slowed: Sequence[Tried]) -> list[Figure]:
    """What benchmarks.rollout tells of baselines, too."""
    return [
        Figure(
            "checks of an unchanged build that passed",
            sum(not tried.has_failed for tried in unchanged),
            f"of {len(unchanged)}",
            f">= {len(unchanged)}",
        ),
        Figure(
            "checks of a build with 25% more work that failed",
            sum(tried.has_failed for tried in slowed),
            f"of {len(slowed)}",
            f">= {len(slowed)}",
        ),
        Figure(
            "of the unchanged: not sure of each figure",
            sum(bool(t.found.unsure) for t in unchanged),
            "checks",
        ),
        Figure("longest check", max(tried.took_s for tried in (*unchanged, *slowed)), "s"),
        Figure(
            "check of an unchanged build, median", middle([tried.took_s for tried in unchanged]), "s", "<= 10"
        ),
        Figure("check of a slowed build, median", middle([tried.took_s for tried in slowed]), "s"),
    ]


def details(tried: Sequence[Tried]) -> list[dict[str, Any]]:
    return [{"took_s": each.took_s, **asdict(each.found)} for each in tried]


def main() -> int:
    options = arguments(__doc__)
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        repository = publish_builds(Path(folder))
        console.print("an unchanged build")
        unchanged = checks(repository, COPY, 2 if options.quick else UNCHANGED, console)
        console.print("a build with 25% more work")
        slowed = checks(repository, SLOWED, 2 if options.quick else SLOW, console)
    told = {"unchanged": details(unchanged), "slowed": details(slowed)}
    return finish(figures(unchanged, slowed), options.json, told)


if __name__ == "__main__":
    sys.exit(main())
