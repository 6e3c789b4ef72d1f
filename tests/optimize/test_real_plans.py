"""Models of usual sizes in INT8, and plans of them for GPUs that are not here."""

from pathlib import Path

import pytest

from benchmarks import rtx


@pytest.mark.parametrize("example", ["resnet", "minilm"])
def test_a_real_model_in_int8_has_plans_for_several_architectures_and_shapes(
    example: str, tmp_path: Path
) -> None:
    found = rtx.plan(example, tmp_path)
    assert found.layers == found.of > 20
    assert [each.architecture for each in found.built] == ["8.0", "8.9", "12.0"]
    assert all(len(each.profiles) >= 2 for each in found.built)
    assert all(each.size_bytes > 10e6 for each in found.built)
