"""What each kind of job does, once it is in a process of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from headrace.tensors import Array, Signature
from optimize import prepare
from optimize.graphs import files_of
from optimize.progress import Line, Progress
from optimize.recipe import Recipe

SIGNATURE: TypeAdapter[Signature] = TypeAdapter(Signature)
_GRAPH = "graph"  # the folder of an ONNX file and its external data, and nothing else
TUNED_ON = 32  # calibration inputs that settings are compared on


@dataclass(frozen=True, slots=True)
class Room:
    """What a job is given: the recipe, its options, the folders of earlier jobs, and one to write into."""

    recipe: Recipe
    options: Mapping[str, Any]
    inputs: Mapping[str, Path]
    folder: Path
    progress: Progress | None

    def line(self, step: str = "", total: int | None = None) -> Line:
        return Line(self.progress, step, total)

    def facts(self, name: str) -> dict[str, Any]:
        """What an earlier job said."""
        facts: dict[str, Any] = json.loads((self.inputs[name] / "result.json").read_bytes())["facts"]
        return facts

    def graph(self, name: str = "model") -> Path:
        """The graph that an earlier job made."""
        return self.inputs[name] / _GRAPH / str(self.facts(name)["graph"])

    def new_graph(self, file: str = prepare.GRAPH) -> Path:
        """Where this job is to write its graph; the folder is empty."""
        folder = self.folder / _GRAPH
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder / file

    def checkpoints(self) -> Path:
        """Where the job saves its own progress; what an interrupted run had saved is there."""
        folder = self.folder / "checkpoints"
        folder.mkdir(exist_ok=True)
        return folder

    def signature(self) -> Signature:
        return SIGNATURE.validate_python(self.facts("prepared")["signature"], strict=False)

    def examples(self) -> tuple[dict[str, Array], ...]:
        return prepare.read_examples(self.recipe, self.signature())


Body = Callable[[Room], dict[str, Any]]


def graph_folder(job: Path) -> Path:
    return job / _GRAPH


def _prepare(room: Room) -> dict[str, Any]:
    from optimize.measure import warm_up_sizes

    line = room.line("", 1)
    target = room.new_graph()
    name = prepare.write_model(room.recipe, target.parent)
    signature = prepare.read_signature(room.recipe, target.with_name(name))
    examples = prepare.read_examples(room.recipe, signature)
    files_of(target.with_name(name))
    line.advance()
    return {
        "graph": name,
        "signature": SIGNATURE.dump_python(signature, mode="json"),
        "warm_up": warm_up_sizes(signature, examples),
        "files": sorted(path.name for path in target.parent.iterdir()),
    }


def _in(module: str, name: str) -> Body:
    """A body that is imported when it runs: a job loads torch only if it trains."""

    def body(room: Room) -> dict[str, Any]:
        found: dict[str, Any] = getattr(import_module(f"optimize.{module}"), name.replace("-", "_"))(room)
        return found

    return body


_BODIES = {
    "measuring": ("measure-original", "measure"),
    "making": (
        *("preprocess", "calibrate", "smooth", "tune", "tune-smooth", "static", "float8", "sensitivity"),
        *("dynamic", "precision"),
    ),
    "training": ("prune-weights", "prune-channels", "distill", "compile"),
}
ROOMS: Mapping[str, Body] = {
    "prepare": _prepare,
    **{name: _in(module, name) for module, names in _BODIES.items() for name in names},
}
