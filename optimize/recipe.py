"""What the user writes: one Python file that names a model and says how good it is.

    def model() -> Path                                # an ONNX file
    def evaluate(predict) -> float                     # higher is better; predict(inputs) -> outputs
    def example_inputs() -> list[TensorMap]            # real requests, one row each
    def signature() -> Signature                       # optional: bounds, limits, padding
    grouping = "nearest"                               # optional: "exact" unless given

`signature` may add to what the graph says: bounds of values, limits of variable dimensions, and
what padding is filled with. Requests are stacked along the first dimension when it is called
"batch"; one that the graph calls batch_size or N is renamed so.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from engines.external import external_files
from headrace.errors import ArtifactRejected, ConfigRejected, HeadraceError
from headrace.tensors import Array, Dim, Signature, TensorMap, TensorSpec

if TYPE_CHECKING:
    import onnx

Predict = Callable[[TensorMap], TensorMap]

_NEEDED = {
    "model": "model() -> path of an ONNX file",
    "evaluate": "evaluate(predict) -> float, higher is better",
    "example_inputs": "example_inputs() -> list of inputs, one row each",
}
_BATCH = re.compile(r"(?i)batch.*|n")
# ONNX's numbers for the datatypes of the protocol (onnx.TensorProto.DataType).
_DTYPES = {
    1: "FP32",
    2: "UINT8",
    3: "INT8",
    4: "UINT16",
    5: "INT16",
    6: "INT32",
    7: "INT64",
    8: "BYTES",
    9: "BOOL",
    10: "FP16",
    11: "FP64",
    12: "UINT32",
    13: "UINT64",
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """A checked recipe. `files` are the graph and its external data, by their names."""

    path: Path
    graph: str
    files: dict[str, Path]
    signature: Signature
    examples: tuple[TensorMap, ...]
    evaluate: Callable[[Predict], float]
    grouping: Literal["exact", "nearest"]


def load_recipe(path: Path) -> Recipe:
    """The recipe in a Python file, its model built and its examples checked.

    ConfigRejected names every missing function at once, or the function that went wrong.
    """
    module = _import(path)
    missing = [told for name, told in _NEEDED.items() if not callable(getattr(module, name, None))]
    if missing:
        raise ConfigRejected(f"recipe {path.name} lacks: {'; '.join(missing)}")
    graph = _graph_path(_call(module, "model"), path.name)
    files = _files(graph)
    signature = _signature(module, graph)
    return Recipe(
        path=path,
        graph=graph.name,
        files=files,
        signature=signature,
        examples=_examples(_call(module, "example_inputs"), signature),
        evaluate=module.evaluate,
        grouping=_grouping(module),
    )


def signature_of(graph: onnx.GraphProto) -> Signature:
    """What a graph takes and gives, without bounds of values."""
    constants = {tensor.name for tensor in graph.initializer}
    return Signature(
        inputs=tuple(_spec(value) for value in graph.input if value.name not in constants),
        outputs=tuple(_spec(value) for value in graph.output),
    )


def _import(path: Path) -> ModuleType:
    spec = spec_from_file_location(f"recipe_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ConfigRejected(f"no recipe {path}; it is a Python file, such as examples/minilm/recipe.py")
    module = sys.modules[spec.name] = module_from_spec(spec)
    if (folder := str(path.parent.resolve())) not in sys.path:
        sys.path.append(folder)  # a recipe may import what lies beside it
    try:
        spec.loader.exec_module(module)
    except HeadraceError:
        raise
    except Exception as err:
        raise ConfigRejected(f"recipe {path.name} cannot be imported: {type(err).__name__}: {err}") from err
    return module


def _call(module: ModuleType, name: str) -> Any:
    try:
        return getattr(module, name)()
    except HeadraceError:
        raise
    except Exception as err:
        raise ConfigRejected(f"{name}() of the recipe raised {type(err).__name__}: {err}") from err


def _graph_path(found: Any, recipe: str) -> Path:
    if not isinstance(found, str | Path):
        raise ConfigRejected(
            f"model() of {recipe} returned {type(found).__name__}; for now it must return the path of an "
            f"ONNX file (export a torch module with torch.onnx.export)"
        )
    path = Path(found)
    if not path.is_file():
        raise ConfigRejected(f"model() of {recipe} returned {path.name!r}, which is not a file")
    return path


def _grouping(module: ModuleType) -> Literal["exact", "nearest"]:
    match getattr(module, "grouping", "exact"):
        case "exact":
            return "exact"
        case "nearest":
            return "nearest"
        case other:
            raise ConfigRejected(f"grouping of the recipe is {other!r}; it must be 'exact' or 'nearest'")


def _files(graph: Path) -> dict[str, Path]:
    beside = {entry.name for entry in graph.parent.iterdir() if entry.is_file()}
    try:
        weights = external_files(graph.read_bytes(), beside)
    except ArtifactRejected as err:
        raise ConfigRejected(f"model() of the recipe gave {graph.name!r}: {err}") from err
    return {name: graph.parent / name for name in (graph.name, *sorted(weights))}


def _signature(module: ModuleType, path: Path) -> Signature:
    import onnx

    if not hasattr(module, "signature"):
        return signature_of(onnx.load(path, load_external_data=False).graph)
    signature = _call(module, "signature")
    if not isinstance(signature, Signature):
        raise ConfigRejected(
            f"signature() of the recipe returned {type(signature).__name__}, not a Signature"
        )
    return signature


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    if tensor.elem_type not in _DTYPES:
        raise ConfigRejected(f"'{value.name}' of the graph has a datatype that cannot be served")
    if not tensor.HasField("shape"):
        raise ConfigRejected(f"'{value.name}' of the graph has no shape; give one by signature()")
    dims = enumerate(tensor.shape.dim)
    return TensorSpec(value.name, _DTYPES[tensor.elem_type], tuple(_dim(value.name, i, d) for i, d in dims))


def _dim(tensor: str, index: int, dim: onnx.TensorShapeProto.Dimension) -> Dim:
    if dim.HasField("dim_value"):
        return int(dim.dim_value)
    if index == 0 and _BATCH.fullmatch(dim.dim_param):
        return "batch"
    return dim.dim_param or f"{tensor}_{index}"


def _examples(found: Any, signature: Signature) -> tuple[dict[str, Array], ...]:
    if not isinstance(found, list | tuple) or not found:
        raise ConfigRejected("example_inputs() of the recipe must return a list of at least one request")
    for number, inputs in enumerate(found):
        try:
            sizes = signature.check(inputs)
        except HeadraceError as err:
            raise ConfigRejected(f"example {number} of the recipe does not fit: {err}") from err
        if signature.is_batchable and sizes["batch"] != 1:
            raise ConfigRejected(
                f"example {number} of the recipe has {sizes['batch']} rows; it must have one"
            )
    return tuple(dict(inputs) for inputs in found)
