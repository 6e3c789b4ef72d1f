"""What a version takes of a GPU follows from its manifest."""

from __future__ import annotations

from pathlib import Path

from engines.gpu_memory import CUDA, least
from tests.onnx_models import publish_all


def test_weights_count_once_and_the_largest_batch_for_each_on_the_way(tmp_path: Path) -> None:
    manifest = publish_all(tmp_path).manifest("double", "1")
    need = least(manifest, 8, [{"length": 10}, {"length": 100}], 2)
    row = 100 * 4 * 2  # x and y, FP32
    assert need.weights == manifest.size_bytes()
    assert need.batches == 2 * 8 * row
    assert need.total == need.weights + need.batches + CUDA
    assert least(manifest, 16, [{"length": 100}], 2).batches == 2 * need.batches
