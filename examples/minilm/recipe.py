"""The recipe for `headrace optimize`: MiniLM judged by what its embeddings are used for.

Accuracy is that of a linear classifier over the embeddings, on 1,000 held-out SMS (spam or not) and
1,000 held-out movie snippets (liked or not), averaged. The classifier is fitted each time on the
embeddings of the very model under test, from 1,000 other texts of the same kind: so a version is
asked whether it still separates the classes, not whether it repeats the original's numbers (that
is the report's column "agreement"). Both sets are cut to those sizes to keep a run under a minute
and a half on two cores.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from examples.minilm import data, graph
from headrace.tensors import Array, Signature, TensorMap

TRAIN = 1000  # texts of each set
TEST = 1000
BATCH = 16  # rows
EXAMPLES = 64  # chat messages that speed is measured with
EVERY = 400  # of the chat messages, in time order
CALIBRATION = 128  # other chat messages, from between those
RIDGE = 1.0  # penalty of the classifier, beside embeddings of length 1

grouping = "nearest"


@cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="minilm-")


def model() -> Path:
    return graph.write(Path(_scratch().name, "model.onnx"))


def signature() -> Signature:
    return graph.SIGNATURE


def example_inputs() -> list[TensorMap]:
    return [data.tokenize(text) for text in data.chat(EXAMPLES * EVERY)[::EVERY]]


def calibration() -> list[TensorMap]:
    """Chat messages that are no examples."""
    step = EXAMPLES * EVERY // CALIBRATION
    return [data.tokenize(text) for text in data.chat(EXAMPLES * EVERY)[step // 2 :: step]]


def evaluate(predict: Callable[[TensorMap], TensorMap]) -> float:
    return (_accuracy(predict, data.sms()) + _accuracy(predict, data.movie())) / 2


def _accuracy(predict: Callable[[TensorMap], TensorMap], labelled: data.Labelled) -> float:
    texts, labels = zip(*labelled[: TRAIN + TEST], strict=True)
    features = embed(predict, list(texts))
    features = np.hstack([features, np.ones((len(features), 1), features.dtype)])
    signs = np.where(labels, 1.0, -1.0)
    train, test = slice(TRAIN), slice(TRAIN, None)
    return float(np.mean((features[test] @ _ridge(features[train], signs[train]) > 0) == (signs[test] > 0)))


def _ridge(features: Array, targets: Array) -> Array:
    """Least squares with a penalty on the weights: the same answer on every run."""
    penalty = RIDGE * np.eye(features.shape[1])
    penalty[-1, -1] = 0.0  # the offset is free
    solution: Array = np.linalg.solve(features.T @ features + penalty, features.T @ targets)
    return solution


def embed(predict: Callable[[TensorMap], TensorMap], texts: list[str]) -> Array:
    """Embeddings in the order of `texts`, (texts, hidden); run in batches of similar length."""
    rows = [data.tokenize(text) for text in texts]
    order = sorted(range(len(rows)), key=lambda i: rows[i]["input_ids"].shape[1])
    found = np.empty((len(rows), graph.HIDDEN))
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        found[chosen] = predict(_padded([rows[i] for i in chosen]))["embedding"]
    return found


def _padded(rows: list[TensorMap]) -> TensorMap:
    length = max(row["input_ids"].shape[1] for row in rows)
    return {
        name: np.vstack([np.pad(row[name], ((0, 0), (0, length - row[name].shape[1]))) for row in rows])
        for name in rows[0]
    }
