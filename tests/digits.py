"""Real labelled images that load at once: 1,797 written digits of 8x8, as a file of scikit-learn."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import torch

from examples.minilm.packages import packaged
from headrace.tensors import Array, TensorMap

TRAIN = 1500  # rows to learn from; the others judge
BATCH = 100


@cache
def images() -> tuple[Array, Array]:
    """Images (1797, 1, 8, 8) from 0 to 1, and their labels."""
    with gzip.open(packaged("sklearn", "datasets", "data", "digits.csv.gz"), "rt") as file:
        table = np.array([[float(cell) for cell in row] for row in csv.reader(file)], np.float32)
    return table[:, :-1].reshape(-1, 1, 8, 8) / 16, table[:, -1].astype(np.int64)


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


def trained() -> Network:
    """A network that has learned (0.92 of the other rows); a new copy each time."""
    network = Network()
    network.load_state_dict(trained_weights())
    return network.eval()


def accuracy(predict: Callable[[TensorMap], TensorMap]) -> float:
    """A recipe's evaluate(): the part of the other rows that is told right."""
    x, labels = (array[TRAIN:] for array in images())
    (found,) = predict({"x": x}).values()
    return float((found.argmax(1) == labels).mean())


def batches(labelled: bool, size: int = BATCH) -> Iterator[tuple[TensorMap, Array] | TensorMap]:
    x, labels = (array[:TRAIN] for array in images())
    for start in range(0, TRAIN, size):
        rows = slice(start, start + size)
        yield ({"x": x[rows]}, labels[rows]) if labelled else {"x": x[rows]}
