"""What a model is asked: the shapes of its requests and how often each comes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from batching.learn import Seen
from batching.shapes import Sizes
from engines.examples import example_inputs
from engines.manifest import Manifest
from headrace.errors import ConfigRejected
from headrace.tensors import Signature, TensorMap


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    sizes: dict[str, Annotated[int, Field(ge=0)]]
    count: int = Field(default=1, ge=1)


def read_shapes(path: Path, signature: Signature) -> list[Seen]:
    """The shapes that `headrace shapes` wrote to a file; ConfigRejected names the first wrong line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as err:
        raise ConfigRejected(f"no file of shapes {path}; record one by: headrace shapes MODEL") from err
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigRejected(f"{path} cannot be read: {err}") from err
    seen = [
        _read_line(line, f"{path}, line {number}", signature)
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]
    if not seen:
        raise ConfigRejected(f"{path} holds no shapes; a line is {_example(signature)}")
    return seen


def _read_line(line: str, where: str, signature: Signature) -> Seen:
    try:
        told = _Line.model_validate_json(line)
    except ValidationError as err:
        problem = err.errors()[0]
        at = ".".join(map(str, problem["loc"]))
        raise ConfigRejected(f"{where}: {at} {problem['msg']}; wanted is {_example(signature)}") from err
    if set(told.sizes) != set(variable_dims(signature)):
        raise ConfigRejected(
            f"{where}: it names the dimensions {sorted(told.sizes)}; wanted is {_example(signature)}"
        )
    for dim, size in told.sizes.items():
        if size > signature.limits.get(dim, size):
            raise ConfigRejected(f"{where}: {dim} is {size}; the model takes {signature.limits[dim]} at most")
    return {dim: told.sizes[dim] for dim in variable_dims(signature)}, told.count


def _example(signature: Signature) -> str:
    sizes = ", ".join(f'"{dim}": 12' for dim in variable_dims(signature))
    return f'{{"sizes": {{{sizes}}}, "count": 3}}'


def variable_dims(signature: Signature) -> list[str]:
    """The variable dimensions of a request other than its batch."""
    dims = (dim for spec in signature.inputs for dim in spec.shape if isinstance(dim, str))
    return list(dict.fromkeys(dim for dim in dims if dim != "batch"))


def known_shapes(manifest: Manifest) -> list[Seen]:
    """The shapes that the version was measured and is warmed up with, each as often as the others.

    ConfigRejected when the manifest tells of none and the model has variable dimensions.
    """
    dims = variable_dims(manifest.signature)
    told: list[Sizes] = [entry.sizes for entry in manifest.latencies] or list(manifest.warm_up)
    if dims and not told:
        raise ConfigRejected(
            f"the manifest of '{manifest.name}/{manifest.version}' tells no shapes of requests; "
            "name a file of them by --shapes, as headrace shapes writes it"
        )
    distinct = {tuple(sizes.get(dim, 1) for dim in dims) for sizes in told} or {()}
    return [(dict(zip(dims, shape, strict=True)), 1) for shape in sorted(distinct)]


def draw(seen: Sequence[Seen], number: int, seed: int = 0) -> list[Sizes]:
    """So many requests' sizes, each shape as often as it was seen, in a fixed random order."""
    counts = np.array([count for _, count in seen], np.float64)
    chosen = np.random.default_rng(seed).choice(len(seen), number, p=counts / counts.sum())
    return [seen[at][0] for at in chosen]


def made_up(signature: Signature, sizes: Sequence[Sizes]) -> list[TensorMap]:
    """One row for each of the sizes: random values, masks of ones; equal sizes share their arrays."""
    made: dict[tuple[int, ...], TensorMap] = {}
    for size in sizes:
        key = tuple(size.values())
        if key not in made:
            plain, random = example_inputs(signature, size), example_inputs(signature, size, seed=len(made))
            masks = {spec.name for spec in signature.inputs if spec.high == 1}
            made[key] = {name: plain[name] if name in masks else random[name] for name in plain}
    return [made[tuple(size.values())] for size in sizes]
