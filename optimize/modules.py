"""A trained module on disk without pickle: its weights, and how to build what they fit.

weights.safetensors    parameters and buffers
module.json            {"base": "model" | "student", "history": what was removed from it}
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from headrace.errors import ConfigRejected
from headrace.tensors import TensorMap
from optimize.checkpoint import fill, read_tensors, tensors_of, write_tensors
from optimize.structured import History, replay

if TYPE_CHECKING:
    import torch

_WEIGHTS = "weights.safetensors"
_PLAN = "module.json"


def save_module(
    module: torch.nn.Module, folder: Path, base: Literal["model", "student"], history: History
) -> Path:
    """`folder`, with a module that the recipe's `base`() becomes when `history` is repeated on it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / _WEIGHTS, tensors_of(module), {})
    (folder / _PLAN).write_text(json.dumps({"base": base, "history": history}), encoding="utf-8")
    return folder


def load_module(
    folder: Path, model: Callable[[], Any], student: Callable[[], Any] | None, example: TensorMap
) -> torch.nn.Module:
    """The module of a folder, in eval mode: built by the recipe, made as small as it was, weights put in.

    `example` is one input, to follow the channels by. ConfigRejected when the recipe no longer builds
    what the weights fit.
    """
    import torch

    plan = json.loads((folder / _PLAN).read_text(encoding="utf-8"))
    build = model if plan["base"] == "model" else student
    module = build() if build else None
    if not isinstance(module, torch.nn.Module):
        raise ConfigRejected(
            f"{plan['base']}() of the recipe must return a torch module to load weights into"
        )
    try:
        replay(module, example, plan["history"])
    except (AttributeError, ValueError, IndexError) as err:
        raise _misfit(plan["base"]) from err
    if not fill(module, read_tensors(folder / _WEIGHTS)):
        raise _misfit(plan["base"])
    return module.eval()


def history_of(folder: Path) -> History:
    """What was removed from the module of a folder so far, to go on from."""
    found: History = json.loads((folder / _PLAN).read_text(encoding="utf-8"))["history"]
    return found


def _misfit(base: str) -> ConfigRejected:
    return ConfigRejected(
        f"{base}() of the recipe builds another network than the one these weights were trained in; "
        f"remove the working folder of this run and start again"
    )
