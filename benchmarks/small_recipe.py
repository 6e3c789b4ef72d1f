"""A small real classifier that a run of every kind of job takes seconds with: a tenth of Fashion-MNIST."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from examples.fashion import data
from examples.fashion.network import Network
from headrace.tensors import TensorMap

ROWS, JUDGED, WIDTH, BATCH = 2000, 1000, 16, 100

outputs = ["logits"]


def model() -> torch.nn.Module:
    """Trained anew each time, which takes two seconds; the same weights each time."""
    torch.manual_seed(0)
    network = Network(WIDTH)
    train(network, 1, lambda: None)
    return network.eval()


def example_inputs() -> list[TensorMap]:
    images, _ = data.validation()
    return [{"image": images[row : row + 1]} for row in range(4)]


def calibration() -> Iterator[TensorMap]:
    images, _ = data.training()
    return ({"image": images[row : row + 1]} for row in range(64))


def evaluate(predict: Callable[[TensorMap], TensorMap]) -> float:
    images, labels = (part[:JUDGED] for part in data.validation())
    return float((predict({"image": images})["logits"].argmax(1) == labels).mean())


def train(model: torch.nn.Module, epochs: int, after_batch: Callable[[], None]) -> None:
    images, labels = (torch.from_numpy(part[:ROWS]) for part in data.training())
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    model.train()
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(ROWS), BATCH):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(images[rows]), labels[rows])
            loss.backward()  # type: ignore[no-untyped-call]  # not in torch's types
            optimizer.step()
            after_batch()
