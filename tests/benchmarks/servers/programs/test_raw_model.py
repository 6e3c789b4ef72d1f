"""The model that other servers run answers as ours does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.servers.base import Setup, Task
from benchmarks.servers.programs.raw_model import RawModel
from engines.artifact import Repository
from examples.minilm.data import chat, tokenize
from tests.conftest import publish_minilm


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Task:
    root: Path = tmp_path_factory.mktemp("models")
    publish_minilm(Repository(root), root)
    rows = [tokenize(text) for text in chat(8)]
    return Task(Repository(root).open("minilm", "1"), rows, "input_ids", "embedding", "attention_mask")


@pytest.mark.parametrize("is_tuned", [True, False])
def test_padded_texts_are_answered_as_alone(texts: Task, is_tuned: bool) -> None:
    task = Task(texts.artifact, texts.requests, texts.tensor, texts.output, texts.mask, is_tuned)
    model = RawModel(task.wire(Setup(1, 2, 8)))
    bodies = [task.row(inputs).tobytes() for inputs in task.requests]
    assert len({len(body) for body in bodies}) > 1
    for answer, expected in zip(model.answer(bodies), task.answers(8), strict=True):
        assert np.allclose(np.frombuffer(answer, np.float32), expected, atol=1e-5)


def test_rows_without_a_mask_run_with_those_of_their_own_shape(task: Task) -> None:
    model = RawModel(task.wire(Setup(1, 1, 16)))
    rows = [task.row(inputs) for inputs in task.requests[:16]]
    calls = []
    run = model._call
    model._call = lambda inputs: calls.append(inputs["x"].shape) or run(inputs)
    assert [np.frombuffer(answer, np.float32).tolist() for answer in model.run(rows)] == [
        (2 * row).tolist() for row in rows
    ]
    assert sorted(calls) == [(3, 4), (3, 5), (3, 6), (3, 7), (4, 3)]
