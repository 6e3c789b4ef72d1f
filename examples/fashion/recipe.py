"""The recipe for `headrace optimize`: a Fashion-MNIST classifier, judged on the 10,000 test images.

The teacher is trained once and kept in out/fashion/teacher.safetensors, or in the file that
HEADRACE_FASHION_WEIGHTS names. The last 5,000 training images are for tuning alone. For distillation
only 2,000 labels are given out, beside all training images without labels.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from examples.fashion import data
from examples.fashion.network import Network, channels_last
from headrace.tensors import Array, TensorMap
from optimize.checkpoint import fill, read_tensors, seed, tensors_of, write_tensors

WEIGHTS = data.ROOT / "out" / "fashion" / "teacher.safetensors"
WIDTH = 32  # channels of the first convolution; INT8 gains little below that
STUDENT_WIDTH = 8  # 7.2 times fewer parameters
EPOCHS = 3
RATE = 5e-3  # at its highest
TUNE_RATE = 2e-3
BATCH = 128  # rows
LABELS = 2000  # for the student
LABELLED_BATCH = 32
JUDGED = 250  # rows in one call

# Chains to give to `headrace optimize examples/fashion/recipe.py --steps CHAIN`, with the accuracy on the
# test images (0.9242 for the teacher) and the seconds of one AMD Zen 3 core when these functions were run.
CHAINS = (
    "prune-weights(sparsity=0.8, rounds=2)",  # 0.9245 in 110 s
    "prune-weights(sparsity=0.9, rounds=2)",  # 0.9192 in 110 s
    "prune-channels(ratio=0.75)",  # 0.9060 in 36 s; 0.9163 at 0.625, 0.9192 at 0.5
    "distill(epochs=3, lr=0.004)",  # 0.9021 in 156 s with 2,000 labels, 7.2 times smaller
)

outputs = ["logits"]


def model() -> torch.nn.Module:
    """The trained teacher; the first call trains it, which takes a few minutes."""
    network = Network(WIDTH)
    path = Path(
        os.environ.get("HEADRACE_FASHION_WEIGHTS") or data.ROOT / "out" / "fashion" / "teacher.safetensors"
    )
    if not path.is_file() or not fill(network, read_tensors(path)):
        seed(0)
        network = Network(WIDTH)
        _train(network, EPOCHS, RATE, tell=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(path, tensors_of(network), {})
    return network.eval()


def student() -> torch.nn.Module:
    seed(1)
    return Network(STUDENT_WIDTH)


def example_inputs() -> list[TensorMap]:
    images, _ = data.validation()
    return [{"image": images[row : row + 1]} for row in range(16)]


def dynamic_shapes() -> dict[str, dict[int, str]]:
    return {"image": {0: "batch"}}


def calibration() -> Iterator[TensorMap]:
    """1,000 training images, in batches."""
    images = data.training()[0][:1000]
    return ({"image": images[start : start + BATCH]} for start in range(0, len(images), BATCH))


def evaluate(predict: Callable[[TensorMap], TensorMap]) -> float:
    return _accuracy(predict, *data.test())


def validate(predict: Callable[[TensorMap], TensorMap]) -> float:
    return _accuracy(predict, *data.validation())


def train(model: torch.nn.Module, epochs: int, after_batch: Callable[[], None]) -> None:
    _train(model, epochs, TUNE_RATE, after_batch)


def labelled(epoch: int) -> Iterator[tuple[TensorMap, Array]]:
    images, labels = data.training()
    for rows in _shuffled(LABELS, epoch, LABELLED_BATCH):
        yield {"image": images[rows]}, labels[rows]


def unlabelled(epoch: int) -> Iterator[TensorMap]:
    images, _ = data.training()
    return ({"image": images[rows]} for rows in _shuffled(len(images), epoch, BATCH))


def _train(
    network: torch.nn.Module,
    epochs: int,
    rate: float,
    after_batch: Callable[[], None] = lambda: None,
    tell: bool = False,
) -> None:
    """AdamW, the rate up and down once."""
    images, labels = (torch.from_numpy(array) for array in data.training())
    channels_last(network)
    optimizer = torch.optim.AdamW(network.parameters(), rate)
    steps = epochs * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    for epoch in range(epochs):
        network.train()
        order = torch.randperm(len(images))[: steps // epochs * BATCH]
        for rows in torch.split(order, BATCH):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(network(images[rows]), labels[rows])
            loss.backward()  # type: ignore[no-untyped-call]  # not in torch's types
            optimizer.step()
            schedule.step()
            after_batch()
        if tell:
            sys.stderr.write(f"training the Fashion-MNIST teacher, once: epoch {epoch + 1} of {epochs}\n")


def _accuracy(predict: Callable[[TensorMap], TensorMap], images: Array, labels: Array) -> float:
    found = [
        predict({"image": images[start : start + JUDGED]})["logits"].argmax(1)
        for start in range(0, len(images), JUDGED)
    ]
    return float((np.concatenate(found) == labels).mean())


def _shuffled(rows: int, epoch: int, size: int) -> list[Array]:
    order = np.random.default_rng(epoch).permutation(rows)
    return [order[start : start + size] for start in range(0, rows - size + 1, size)]
