"""The first job of a run: the recipe's model as an ONNX file, its signature and its examples, checked."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from shutil import copyfile
from typing import TYPE_CHECKING, Any

from headrace.errors import ConfigRejected, HeadraceError
from headrace.tensors import Array, Signature, TensorMap
from optimize.export import DynamicShapes, export_model
from optimize.graphs import files_of, signature_of
from optimize.recipe import Recipe

if TYPE_CHECKING:
    import torch

GRAPH = "model.onnx"
MAX_CALIBRATION = 4096  # rows; more add nothing to ranges


def write_model(recipe: Recipe, folder: Path) -> str:
    """The recipe's model in `folder`; the name of the graph's file."""
    found = recipe.call("model")
    if is_module(found):
        return export_module(recipe, found, folder).name
    if not isinstance(found, str | Path):
        raise recipe.reject(
            "model", f"model() returned {type(found).__name__}; it must return a torch module or a path"
        )
    path = Path(found)
    if path.is_dir() or not path.exists():
        raise recipe.reject("model", f"model() returned {path.name!r}, which is not a file")
    for name, source in files_of(path).items():
        copyfile(source, folder / name)
    return path.name


def export_module(recipe: Recipe, module: torch.nn.Module, folder: Path) -> Path:
    """A torch module as ONNX in `folder`, compared with the module on the recipe's examples."""
    examples = raw_examples(recipe)
    shapes = dynamic_shapes(recipe, examples[0])
    return export_model(module, examples, shapes, recipe.outputs, folder / GRAPH)


def dynamic_shapes(recipe: Recipe, example: TensorMap) -> DynamicShapes:
    """The recipe's own, else the first dimension of each input as the batch."""
    if recipe.has("dynamic_shapes"):
        shapes: DynamicShapes | None = recipe.call("dynamic_shapes")
        if shapes is not None:
            return shapes
    return {name: {0: "batch"} for name in example}


def is_module(found: Any) -> bool:
    """Whether this is a torch module; torch is not imported for the question."""
    return any(base.__module__.startswith("torch.nn") for base in type(found).__mro__)


def read_signature(recipe: Recipe, graph: Path) -> Signature:
    """The recipe's own signature, or what the graph says."""
    import onnx

    if not recipe.has("signature"):
        return signature_of(onnx.load(graph, load_external_data=False).graph)
    signature = recipe.call("signature")
    if not isinstance(signature, Signature):
        raise recipe.reject("signature", f"signature() returned {type(signature).__name__}, not a Signature")
    return signature


def raw_examples(recipe: Recipe) -> list[dict[str, Array]]:
    found = recipe.call("example_inputs")
    if not isinstance(found, list | tuple) or not found:
        raise recipe.reject("example_inputs", "example_inputs() must return a list of at least one request")
    return [dict(inputs) for inputs in found]


def read_examples(recipe: Recipe, signature: Signature) -> tuple[dict[str, Array], ...]:
    """The recipe's examples, each one row that fits."""
    found = raw_examples(recipe)
    for number, inputs in enumerate(found):
        try:
            sizes = signature.check(inputs)
        except HeadraceError as err:
            raise recipe.reject("example_inputs", f"example {number} does not fit: {err}") from err
        if signature.is_batchable and sizes["batch"] != 1:
            raise recipe.reject(
                "example_inputs", f"example {number} has {sizes['batch']} rows; it must have one"
            )
    return tuple(found)


def read_calibration(recipe: Recipe, signature: Signature, skip: int = 0) -> Iterator[dict[str, Array]]:
    """The recipe's calibration inputs after the first `skip`, checked as they come."""
    recipe.need("calibration", "static INT8")
    found = recipe.call("calibration")
    if not hasattr(found, "__iter__"):
        raise recipe.reject("calibration", f"calibration() returned {type(found).__name__}, not inputs")
    number = -1
    rows = iter(found)
    while number + 1 < MAX_CALIBRATION:
        try:
            inputs = next(rows)
        except StopIteration:
            break
        except Exception as err:
            raise ConfigRejected(
                f"{recipe.where('calibration', err)}: calibration() raised {type(err).__name__}: {err}"
            ) from err
        number += 1
        if number < skip:
            continue
        try:
            signature.check(inputs)
        except (HeadraceError, AttributeError, TypeError) as err:
            raise recipe.reject(
                "calibration", f"calibration input {number} does not fit the model: {err}"
            ) from err
        yield dict(inputs)
    if number < 0:
        raise recipe.reject(
            "calibration", "calibration() gave no input; give some 100 real ones, without labels"
        )


def some_calibration(recipe: Recipe, signature: Signature, count: int) -> list[dict[str, Array]]:
    """The first `count` calibration inputs."""
    return list(islice(read_calibration(recipe, signature), count))
