"""Real labelled images that load at once: 1,797 written digits of 8x8, as a file of scikit-learn."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable
from functools import cache

import numpy as np

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


def accuracy(predict: Callable[[TensorMap], TensorMap]) -> float:
    """A recipe's evaluate(): the part of the other rows that is told right."""
    x, labels = (array[TRAIN:] for array in images())
    (found,) = predict({"x": x}).values()
    return float((found.argmax(1) == labels).mean())
