"""Two releases of a library in turns: a ratio with its interval."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from engines.artifact import Artifact
from headrace.config import BatchingConfig
from optimize.beside import ROUNDS, compare, ratio_of
from tests.onnx_models import publish_sized

BATCHING = BatchingConfig(grouping="exact").model_dump(mode="json")


@pytest.fixture
def double(tmp_path: Path) -> Artifact:
    """It tells the shapes of its requests by a warm-up."""
    return publish_sized(tmp_path / "models")


def test_the_same_library_is_as_fast(double: Artifact) -> None:
    found = compare(double, Path(sys.executable), 1, BATCHING, seconds=4.0)
    assert found.low <= found.value <= found.high
    assert 0.5 < found.value < 2


def test_the_interval_leaves_single_rounds_out() -> None:
    found = ratio_of([0.1, 9.0] + [1.2] * (ROUNDS - 2))
    assert (found.value, found.low, found.high) == (1.2, 1.2, 1.2)


def test_the_interval_of_noise_holds_one() -> None:
    found = ratio_of([1 + (number - 9.5) / 100 for number in range(ROUNDS)])
    assert found.low < 1 < found.high
