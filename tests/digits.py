"""A small network that learns written digits in seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import torch

from headrace.tensors import Array, TensorMap
from tests.digit_images import BATCH, TRAIN, accuracy, images

__all__ = ["BATCH", "TRAIN", "Network", "accuracy", "batches", "images", "train", "trained"]


class Network(torch.nn.Module):
    """Two convolutions with batch norm and a residual connection, then a linear layer."""

    def __init__(self, width: int = 32, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first = torch.nn.Conv2d(1, width, 3, stride=2, padding=1, bias=False)
        self.first_norm = torch.nn.BatchNorm2d(width)
        self.second = torch.nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.second_norm = torch.nn.BatchNorm2d(width)
        self.head = torch.nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first_norm(self.first(x)))
        x = torch.relu(x + self.second_norm(self.second(x)))
        found: torch.Tensor = self.head(x.mean((2, 3)))
        return found


def train(model: torch.nn.Module, epochs: int, after_batch: Callable[[], None] = lambda: None) -> None:
    """A recipe's train(): Adam over the first 1,500 rows, the rate up and down once."""
    x, labels = (torch.from_numpy(array[:TRAIN]) for array in images())
    optimizer = torch.optim.Adam(model.parameters())
    steps = epochs * TRAIN // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-2, total_steps=steps)
    model.train()
    for _ in range(epochs):
        for batch in torch.randperm(TRAIN).split(BATCH):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[batch]), labels[batch]).backward()
            optimizer.step()
            schedule.step()
            after_batch()


@cache
def trained_weights() -> dict[str, torch.Tensor]:
    network = Network()
    train(network, 10)
    return network.state_dict()


def trained(kept: Path | None = None) -> Network:
    """A network that has learned (0.92 of the other rows); a new copy each time.

    Its weights are written to the file `kept`, or read from there, so that other processes need not
    train it again.
    """
    from safetensors.torch import load_file, save_file

    network = Network()
    if kept is None or not kept.exists():
        network.load_state_dict(trained_weights())
        if kept is not None:
            save_file(trained_weights(), kept)
    else:
        network.load_state_dict(load_file(kept))
    return network.eval()


def batches(labelled: bool, size: int = BATCH) -> Iterator[tuple[TensorMap, Array] | TensorMap]:
    x, labels = (array[:TRAIN] for array in images())
    for start in range(0, TRAIN, size):
        rows = slice(start, start + size)
        yield ({"x": x[rows]}, labels[rows]) if labelled else {"x": x[rows]}
