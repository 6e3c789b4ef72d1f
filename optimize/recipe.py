"""What the user writes: one Python file that names a model and says how good it is.

    def model() -> torch.nn.Module | Path              # or the path of an ONNX file
    def example_inputs() -> list[TensorMap]            # real requests, one row each
    def evaluate(predict) -> float                     # on test data, higher is better

    def signature() -> Signature                       # bounds, limits, padding; ONNX files only
    def dynamic_shapes() -> {input: {axis: name}}      # torch modules; axis 0 is "batch" unless given
    def calibration() -> Iterable[TensorMap]           # real inputs without labels, for static INT8
    def validate(predict) -> float                     # on data kept from training, to tune with
    def train(model, epochs, after_batch) -> None      # fine-tunes; calls after_batch() after each step
    def labelled(epoch) / unlabelled(epoch)            # batches to distil with
    def student() -> torch.nn.Module                   # the smaller network to distil into
    def keep(model) / heads(model)                     # modules never pruned; heads of projections
    grouping = "nearest"                               # "exact" unless given
    outputs = ["logits"]                               # names of a torch module's outputs

All below the first three are optional. `predict(inputs) -> outputs` takes and gives arrays by name.
"""

from __future__ import annotations

import hashlib
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Literal, cast, get_args

from headrace.errors import ConfigRejected, HeadraceError
from headrace.tensors import TensorMap
from optimize.inputs import read_inputs

Predict = Callable[[TensorMap], TensorMap]
Grouping = Literal["exact", "nearest"]

_NEEDED = {
    "model": "model() -> torch module or path of an ONNX file",
    "evaluate": "evaluate(predict) -> float, higher is better",
    "example_inputs": "example_inputs() -> list of inputs, one row each",
}
_OPTIONAL = (
    *("signature", "dynamic_shapes", "calibration", "validate", "train", "labelled", "unlabelled"),
    *("student", "keep", "heads"),
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe whose functions are there; `call` runs one and tells its mistakes by file and line."""

    name: str  # of the file
    functions: Mapping[str, Callable[..., Any]]
    grouping: Grouping = "exact"
    outputs: tuple[str, ...] = ()
    path: Path | None = None  # None: made in this process, not by a file
    sources: tuple[Path, ...] = field(default=(), compare=False)  # its own file and those it imported
    inputs: Path | None = None  # a file of inputs that are taken instead of calibration()

    def has(self, name: str) -> bool:
        return name in self.functions

    def need(self, name: str, what_for: str) -> None:
        """ConfigRejected unless the recipe has the function."""
        if not self.has(name):
            raise ConfigRejected(f"{what_for} needs {name}() in {self.name}; add it, or leave this step out")

    def call(self, name: str, *arguments: Any) -> Any:
        """What a function of the recipe returns; ConfigRejected with file and line when it raises."""
        try:
            return self.functions[name](*arguments)
        except HeadraceError as err:
            raise type(err)(f"{self.where(name, err)}: {err}") from err
        except Exception as err:
            raise ConfigRejected(
                f"{self.where(name, err)}: {name}() raised {type(err).__name__}: {err}"
            ) from err

    def reject(self, name: str, problem: str) -> ConfigRejected:
        """The error for a function whose result is wrong, with the line where it stands."""
        return ConfigRejected(f"{self.where(name)}: {problem}")

    def where(self, name: str, err: BaseException | None = None) -> str:
        """ "recipe.py line 12": the innermost line of the recipe that an error came through."""
        frames = traceback.extract_tb(err.__traceback__) if err is not None else []
        ours = [frame.lineno for frame in frames if self.path and Path(frame.filename) == self.path]
        code = cast(CodeType | None, getattr(self.functions.get(name), "__code__", None))
        line = ours[-1] if ours else code.co_firstlineno if code and self.path else None
        return f"{self.name} line {line}" if line else self.name

    def digest(self) -> str:
        """SHA-256 of the recipe's sources, what it imported from beside it included."""
        told = hashlib.sha256()
        for path in self.sources:
            told.update(hashlib.sha256(path.read_bytes()).digest())
        return told.hexdigest()


def load_recipe(path: Path, inputs: Path | None = None) -> Recipe:
    """The recipe in a Python file; ConfigRejected names every missing function at once.

    `inputs`, a file as `headrace inputs` writes it, is what it is calibrated with instead of calibration().
    """
    path = path.resolve()
    module = _import(path)
    missing = [told for name, told in _NEEDED.items() if not callable(getattr(module, name, None))]
    if missing:
        raise ConfigRejected(f"recipe {path.name} lacks: {'; '.join(missing)}")
    functions = {
        name: getattr(module, name)
        for name in (*_NEEDED, *_OPTIONAL)
        if callable(getattr(module, name, None))
    }
    sources = (path, *_imported_from(path.parent, path))
    if inputs is not None:
        inputs = inputs.resolve()
        functions["calibration"] = partial(read_inputs, inputs)
        sources = (*sources, inputs)
    return Recipe(
        name=path.name,
        functions=functions,
        grouping=_grouping(path.name, getattr(module, "grouping", "exact")),
        outputs=_outputs(path.name, getattr(module, "outputs", ())),
        path=path,
        sources=sources,
        inputs=inputs,
    )


def recipe_of(
    grouping: str = "exact", outputs: Iterable[str] = (), **functions: Callable[..., Any]
) -> Recipe:
    """The same from functions of this process, by their names in a recipe file."""
    unknown = sorted(set(functions) - {*_NEEDED, *_OPTIONAL})
    missing = [told for name, told in _NEEDED.items() if name not in functions]
    if unknown or missing:
        raise ConfigRejected(f"the recipe lacks: {'; '.join(missing)}; unknown: {', '.join(unknown)}")
    name = "the recipe"
    return Recipe(name, functions, _grouping(name, grouping), _outputs(name, outputs))


def _import(path: Path) -> ModuleType:
    spec = spec_from_file_location(f"recipe_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ConfigRejected(
            f"no recipe {path.name!r}; it is a Python file, such as examples/minilm/recipe.py"
        )
    module = sys.modules[spec.name] = module_from_spec(spec)
    if (folder := str(path.parent)) not in sys.path:
        sys.path.append(folder)  # a recipe may import what lies beside it
    try:
        spec.loader.exec_module(module)
    except HeadraceError:
        raise
    except SyntaxError as err:
        raise ConfigRejected(f"{path.name} line {err.lineno}: {err.msg}") from err
    except Exception as err:
        lines = [f.lineno for f in traceback.extract_tb(err.__traceback__) if Path(f.filename) == path]
        where = f"{path.name} line {lines[-1]}" if lines else path.name
        raise ConfigRejected(f"{where}: it cannot be imported: {type(err).__name__}: {err}") from err
    return module


def _imported_from(folder: Path, recipe: Path) -> list[Path]:
    """The files below the recipe's folder that are imported now: what it says may depend on them."""
    files = {Path(file).resolve() for module in list(sys.modules.values()) if (file := _file(module))}
    return sorted(file for file in files if file.is_relative_to(folder) and file != recipe)


def _file(module: ModuleType) -> str | None:
    return getattr(module, "__file__", None)


def _grouping(recipe: str, found: object) -> Grouping:
    for known in get_args(Grouping):
        if found == known:
            return cast(Grouping, known)
    raise ConfigRejected(f"grouping of {recipe} is {found!r}; it must be 'exact' or 'nearest'")


def _outputs(recipe: str, found: object) -> tuple[str, ...]:
    if not isinstance(found, list | tuple) or not all(isinstance(name, str) and name for name in found):
        raise ConfigRejected(f"outputs of {recipe} must be a list of names; got {found!r}")
    return tuple(found)
