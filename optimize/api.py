"""The same without a file: `optimize(model, evaluate=..., calibration=...)` from a program or a notebook."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from headrace.errors import ConfigRejected
from headrace.tensors import Signature, TensorMap
from optimize import pipeline
from optimize.goals import Goals
from optimize.progress import Progress
from optimize.recipe import Predict, recipe_of
from optimize.report import Report
from optimize.steps import Chain, Step

_EXAMPLES = 16  # taken from the calibration inputs when none are given


def optimize(
    model: Any,
    *,
    evaluate: Callable[[Predict], float],
    out: Path,
    example_inputs: Sequence[TensorMap] = (),
    calibration: Iterable[TensorMap] = (),
    goals: Goals | None = None,
    steps: Sequence[Step | Chain] = (),
    targets: Sequence[str] = ("onnxruntime",),
    signature: Signature | None = None,
    grouping: str = "exact",
    outputs: Sequence[str] = (),
    progress: Progress | None = None,
    **functions: Callable[..., Any],
) -> Report:
    """Publish a torch module, or the ONNX file at a path, and its best version under `out`.

    `example_inputs` are single rows; without any, the first calibration inputs are taken. `steps` are
    chains to try one by one, `functions` the optional ones of a recipe (train, student, validate, ...).
    Candidates are made and measured in forked processes. Nothing of the run is kept but what is published.
    Errors are those of `optimize.pipeline.optimize`.
    """
    rows = list(calibration)
    examples = list(example_inputs) or [_first_row(inputs) for inputs in islice(rows, _EXAMPLES)]
    if not examples:
        raise ConfigRejected("give example_inputs or calibration: speed is measured on real inputs")
    given: dict[str, Callable[..., Any]] = {
        "model": lambda: model,
        "evaluate": evaluate,
        "example_inputs": lambda: examples,
        **functions,
    }
    if rows:
        given["calibration"] = lambda: rows
    if signature is not None:
        given["signature"] = lambda: signature
    recipe = recipe_of(grouping, outputs, **given)
    chains = [(step,) if isinstance(step, Step) else step for step in steps]
    with tempfile.TemporaryDirectory(prefix="headrace-optimize-") as work:
        return pipeline.optimize(
            recipe, out, goals, progress, chains=chains, targets=targets, work=Path(work)
        )


def _first_row(inputs: TensorMap) -> TensorMap:
    return {name: array[:1] for name, array in inputs.items()}
