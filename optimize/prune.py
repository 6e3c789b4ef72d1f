"""Weights set to zero: fewer bytes to send, as zeros compress, but no less work for a dense CPU kernel.

Only weights of convolutions and linear layers are pruned; a bias or a batch norm never is.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.errors import ConfigRejected
from optimize.checkpoint import Checkpoint, seed
from optimize.progress import Line

if TYPE_CHECKING:
    import torch

# A recipe's train(model, epochs, after_batch): trains in place, calls after_batch() after each step.
Train = Callable[["torch.nn.Module", int, Callable[[], None]], None]
Facts = dict[str, Any]
Masks = dict[str, "torch.Tensor"]  # True where a weight stays, by the name of the weight

_CHUNK = 1 << 20  # bytes


def prune_weights(
    module: torch.nn.Module,
    sparsity: float,
    train: Train,
    rounds: int = 4,
    epochs: int = 1,
    checkpoint: Checkpoint | None = None,
    line: Line | None = None,
) -> Facts:
    """Zero the `sparsity` smallest part of all weights together, in rounds with training in between.

    In place. The part grows by a cubic schedule, fast at first (Zhu and Gupta 2017,
    https://arxiv.org/abs/1710.01878). With a checkpoint each round is kept, and a run that was
    killed ends at the same weights, bit for bit. Facts: the sparsity reached, overall and by layer.
    """
    if not 0 < sparsity < 1:
        raise ConfigRejected(
            f"weight pruning needs a sparsity between 0 and 1, such as 0.8; got {sparsity:g}"
        )
    weights = _weights(module)
    last = _resume(module, checkpoint, rounds)
    for number in range(last + 1, rounds + 1):
        masks = _smallest(weights, sparsity * (1 - (1 - number / rounds) ** 3))
        _tune(module, masks, train, epochs, number)
        if checkpoint:
            checkpoint.save(_round(number), module, {})
        if line:
            line.advance()
    return sparsity_facts(module)


def mask_two_of_four(
    module: torch.nn.Module,
    train: Train,
    epochs: int = 1,
    checkpoint: Checkpoint | None = None,
    line: Line | None = None,
) -> Facts:
    """Keep the two larger of every four weights along the input dimension: what sparse Tensor Cores skip.

    In place, then trained with the masks on. A layer whose inputs do not divide by four stays dense:
    `dense_layers` of the facts counts those.
    """
    weights = _weights(module)
    fitting = {name: weight for name, weight in weights.items() if weight.shape[1] % 4 == 0}
    if not fitting:
        raise ConfigRejected("2:4 pruning needs layers whose input size divides by 4; this model has none")
    if not _resume(module, checkpoint, 1):
        _tune(module, {name: _two_of_four(w) for name, w in fitting.items()}, train, epochs, 1)
        if checkpoint:
            checkpoint.save(_round(1), module, {})
    if line:
        line.advance()
    return {**sparsity_facts(module), "dense_layers": len(weights) - len(fitting)}


def sparsity_facts(module: torch.nn.Module) -> Facts:
    """The part of zeros among the weights that can be pruned, overall and by layer."""
    zeros = {name: int((weight == 0).sum()) for name, weight in _weights(module).items()}
    sizes = {name: weight.numel() for name, weight in _weights(module).items()}
    return {
        "sparsity": sum(zeros.values()) / sum(sizes.values()),
        "weights": sum(sizes.values()),
        "by_layer": {name.removesuffix(".weight"): zeros[name] / sizes[name] for name in sizes},
    }


def compressed_bytes(path: Path) -> int:
    """The size of a file as gzip -6 sends it: the download size of a sparse model."""
    compressor = zlib.compressobj(6, wbits=31)  # 31: with the header and trailer of gzip, without a time
    total = 0
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            total += len(compressor.compress(chunk))
    return total + len(compressor.flush())


def _weights(module: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The weights that can be pruned, by name; tied ones once. ConfigRejected when there are none."""
    from torch import nn

    kinds = (nn.Linear, nn.modules.conv._ConvNd)
    layers = [(name, layer) for name, layer in module.named_modules() if isinstance(layer, kinds)]
    found = {
        id(layer.weight): (f"{name}.weight".lstrip("."), layer.weight) for name, layer in reversed(layers)
    }
    if not found:
        raise ConfigRejected("the model has no convolution or linear layer, so nothing to prune")
    return dict(reversed(found.values()))


def _smallest(weights: dict[str, torch.nn.Parameter], sparsity: float) -> Masks:
    """Masks that drop exactly the part `sparsity` of all weights, those of the smallest magnitude."""
    import torch

    magnitudes = torch.cat([weight.detach().abs().flatten() for weight in weights.values()])
    drop = magnitudes.topk(round(sparsity * len(magnitudes)), largest=False, sorted=False).indices
    kept = torch.ones(len(magnitudes), dtype=torch.bool)
    kept[drop] = False
    parts = torch.split(kept, [weight.numel() for weight in weights.values()])
    return {name: part.view_as(weights[name]) for name, part in zip(weights, parts, strict=True)}


def _two_of_four(weight: torch.Tensor) -> torch.Tensor:
    """A mask for one weight, (outputs, inputs, ...)."""
    import torch

    inputs_last = weight.detach().abs().movedim(1, -1)
    fours = inputs_last.reshape(-1, 4)
    kept = torch.zeros_like(fours, dtype=torch.bool).scatter(1, fours.topk(2, dim=1).indices, True)
    return kept.view(inputs_last.shape).movedim(-1, 1)


def _tune(module: torch.nn.Module, masks: Masks, train: Train, epochs: int, number: int) -> None:
    """Train with the masks on; the random numbers of a round depend on its number alone."""
    import torch

    weights = _weights(module)

    @torch.no_grad()
    def apply() -> None:
        for name, mask in masks.items():
            weights[name].mul_(mask)

    seed(number)
    module.zero_grad()
    apply()
    train(module, epochs, apply)
    apply()
    module.eval()


def _resume(module: torch.nn.Module, checkpoint: Checkpoint | None, rounds: int) -> int:
    """The number of the last round that was kept, its weights put into the module; 0: none."""
    for number in range(rounds, 0, -1):
        if checkpoint and checkpoint.load(_round(number), module) is not None:
            module.eval()
            return number
    return 0


def _round(number: int) -> str:
    return f"round-{number}"
