"""Rounds of training that survive a kill: weights and facts in one file, whole or not there."""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

Tensors = dict[str, "torch.Tensor"]

_FACTS = "facts"  # the key in the file's metadata
_NAME = re.compile(r"[\w.-]+")


class Checkpoint:
    """A folder of rounds by name. A round that cannot be read, or fits no longer, is as if it never was."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(
        self,
        name: str,
        module: torch.nn.Module,
        facts: Mapping[str, Any],
        more: Mapping[str, Any] | None = None,
    ) -> None:
        """Keep the weights with `facts` (JSON) and `more` tensors, such as an optimizer's state."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"module.{key}": tensor for key, tensor in tensors_of(module).items()}
        tensors |= {f"more.{key}": tensor for key, tensor in (more or {}).items()}
        write_tensors(self._path(name), tensors, {_FACTS: json.dumps(dict(facts))})

    def facts(self, name: str) -> dict[str, Any] | None:
        """The facts of a round alone: they may tell how to build the module that its weights fit."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self._path(name), "pt") as file:
                found: dict[str, Any] = json.loads(file.metadata()[_FACTS])
        except (OSError, SafetensorError, TypeError, KeyError, ValueError):
            return None
        return found

    def load(self, name: str, module: torch.nn.Module) -> dict[str, Any] | None:
        """The facts of a round, its weights put into `module`; None: there is no such round."""
        facts = self.facts(name)
        if facts is None:
            return None
        tensors = read_tensors(self._path(name))
        return facts if fill(module, _part(tensors, "module.")) else None

    def more(self, name: str) -> Tensors:
        """The other tensors of a round that is there."""
        return _part(read_tensors(self._path(name)), "more.")

    def _path(self, name: str) -> Path:
        assert _NAME.fullmatch(name), name
        return self.folder / f"{name}.safetensors"


def tensors_of(module: torch.nn.Module) -> Tensors:
    """Parameters and buffers by name. Of tied ones, which share their memory, the first stands for all."""
    found: Tensors = {}
    seen: set[tuple[int, Any, Any]] = set()
    for name, tensor in module.state_dict().items():
        place = (tensor.data_ptr(), tensor.shape, tensor.stride())
        if tensor.numel() and place in seen:
            continue
        seen.add(place)
        found[name] = tensor
    return found


def fill(module: torch.nn.Module, tensors: Tensors) -> bool:
    """Copy `tensors` into the module, in place; False, and nothing copied, when names or shapes differ."""
    import torch

    places = tensors_of(module)
    if {n: (t.shape, t.dtype) for n, t in places.items()} != {
        n: (t.shape, t.dtype) for n, t in tensors.items()
    }:
        return False
    with torch.no_grad():
        for name, place in places.items():
            place.copy_(tensors[name])
    return True


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: dict[str, str]) -> None:
    """A safetensors file, in place of another or not at all. Views are written as tensors of their own."""
    from safetensors.torch import save

    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    try:
        with temporary.open("wb") as stream:
            stream.write(save(whole, metadata))
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_tensors(path: Path) -> Tensors:
    from safetensors.torch import load

    found: Tensors = load(path.read_bytes())
    return found


def seed(number: int) -> None:
    """The same random numbers from here on, in torch, numpy and Python, so that a round can be repeated."""
    import torch

    torch.manual_seed(number)
    np.random.seed(number)
    random.seed(number)


def _part(tensors: Tensors, prefix: str) -> Tensors:
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
