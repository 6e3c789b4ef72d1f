"""Python code as a step before a graph: tokenizers, image decoding, features.

The version's graph is a Python file with three functions, and beside it lie the files that it needs:

    def signature() -> Signature              # what it takes and gives, read when it is published
    def files() -> list[Path]                 # optional: what is published with it, from the file's folder
    def load(folder: Path) -> run             # `folder` holds those files

`run(requests) -> answers` gets the inputs of each request of a batch, arrays by name, and gives as many
answers, each with sizes of its own. ValueError says that a request is wrong: its caller gets the message.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from engines.artifact import Artifact
from headrace.errors import ArtifactRejected, EngineFailed, HeadraceError, TensorRejected
from headrace.tensors import Array, Signature, TensorMap, TensorSpec, dtype_name

RunEach = Callable[[list[TensorMap]], Sequence[TensorMap]]


class PythonEngine:
    """The `run` of a version's Python file. ArtifactRejected, with the line, when it cannot be loaded."""

    def __init__(self, artifact: Artifact) -> None:
        self.signature: Signature = artifact.manifest.signature
        graph = artifact.manifest.graph
        module = module_of(graph, artifact.read(graph))
        self._run: RunEach = call(module, graph, "load", artifact.folder)

    def warm_up(self) -> None:
        """Nothing: what it takes cannot be made up."""

    def run(self, batch: TensorMap, outputs: tuple[str, ...] = ()) -> dict[str, Array]:
        (answer,) = self.run_each([batch])
        return {name: answer[name] for name in outputs} if outputs else answer

    def run_each(self, requests: Sequence[TensorMap]) -> list[dict[str, Array]]:
        try:
            answers = list(self._run(list(requests)))
        except HeadraceError:
            raise
        except ValueError as err:
            raise TensorRejected(str(err)) from err
        if len(answers) != len(requests):
            raise EngineFailed(f"{len(answers)} answers were given to {len(requests)} requests")
        rows = [len(next(iter(request.values()))) for request in requests]
        return [self._checked(*pair) for pair in zip(answers, rows, strict=True)]

    def close(self) -> None:
        del self._run

    def _checked(self, answer: TensorMap, rows: int) -> dict[str, Array]:
        sizes = {"batch": rows}
        return {spec.name: _checked(spec, answer.get(spec.name), sizes) for spec in self.signature.outputs}


def _checked(spec: TensorSpec, found: Any, sizes: dict[str, int]) -> Array:
    """The output as the signature says; EngineFailed tells its author what is wrong."""
    if found is None:
        raise EngineFailed(f"output '{spec.name}' is missing")
    array: Array = np.asarray(found)
    if dtype_name(array) != spec.dtype or array.ndim != len(spec.shape):
        raise EngineFailed(
            f"output '{spec.name}' is {dtype_name(array)} with {array.ndim} dimensions; by the signature it "
            f"is {spec.dtype} with {len(spec.shape)}"
        )
    for dim, size in zip(spec.shape, array.shape, strict=True):
        wanted = dim if isinstance(dim, int) else sizes.setdefault(dim, size)
        if size != wanted:
            raise EngineFailed(
                f"output '{spec.name}' has shape {list(array.shape)}, where '{dim}' is to be {wanted}"
            )
    return array


def module_of(file: str, code: bytes) -> ModuleType:
    """A Python file's module; ArtifactRejected with the line that failed. The code runs."""
    module = ModuleType(file.removesuffix(".py"))
    module.__file__ = file
    try:
        exec(compile(code, file, "exec"), module.__dict__)  # noqa: S102  what the configuration allowed
    except SyntaxError as err:
        raise ArtifactRejected(f"{file} line {err.lineno}: {err.msg}") from err
    except Exception as err:
        raise _failed(file, err) from err
    return module


def call(module: ModuleType, file: str, name: str, *arguments: Any) -> Any:
    """What a function of the file returns; ArtifactRejected with the line when it raises or is not there."""
    function = getattr(module, name, None)
    if not callable(function):
        raise ArtifactRejected(f"{file} has no function {name}(); engines/python.py says what it must have")
    try:
        return function(*arguments)
    except Exception as err:
        raise _failed(file, err) from err


def _failed(file: str, err: Exception) -> ArtifactRejected:
    lines = [f.lineno for f in traceback.extract_tb(err.__traceback__) if f.filename == file]
    where = f"{file} line {lines[-1]}" if lines else file
    return ArtifactRejected(f"{where}: {type(err).__name__}: {err}")
