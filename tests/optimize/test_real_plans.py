"""Models of usual sizes in INT8, and plans of them for GPUs that are not here."""

from pathlib import Path

import pytest

from benchmarks import rtx
from engines.artifact import Repository
from engines.plans import Plans
from engines.profiles import make_profiles
from engines.trt_build import Recipe, build
from engines.trt_library import RTX, find
from optimize.api import optimize
from optimize.goals import Goals
from optimize.plans import build_plans
from optimize.precision import to_half
from optimize.prepare import read_signature, write_model
from optimize.publish import publish_again
from optimize.recipe import load_recipe
from optimize.steps import QuantizeStatic
from tests import digits


@pytest.mark.parametrize("example", ["resnet", "minilm"])
def test_a_real_model_in_int8_has_plans_for_several_architectures_and_shapes(
    example: str, tmp_path: Path
) -> None:
    found = rtx.plan(example, tmp_path)
    assert found.layers == found.of > 20
    assert [each.architecture for each in found.built] == ["8.0", "8.9", "12.0"]
    assert all(len(each.profiles) >= 2 for each in found.built)
    assert all(each.size_bytes > 10e6 for each in found.built)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_real_model_in_half_precision_has_a_plan_of_half_the_size(precision: str, tmp_path: Path) -> None:
    recipe = load_recipe(rtx.EXAMPLES / "resnet" / "recipe.py")
    source = tmp_path / write_model(recipe, tmp_path)
    signature = read_signature(recipe, source)
    half = to_half(source, tmp_path / "half.onnx", precision)
    how = Recipe(make_profiles(signature, 8), ("8.9",))
    full, small = (build(find(RTX), path.read_bytes(), signature, how).data for path in (source, half))
    assert len(small) < 0.6 * len(full)


def test_without_a_gpu_a_model_is_optimized_judged_and_has_a_plan(tmp_path: Path) -> None:
    """Accuracy by ONNX Runtime, on the very graph that TensorRT gets."""
    report = optimize(
        digits.trained(),
        evaluate=digits.accuracy,
        calibration=[{"x": image[None]} for image in digits.images()[0][:64]],
        out=tmp_path / "digits",
        goals=Goals(max_drop=0.02),
        steps=[QuantizeStatic(symmetric=True, method="minmax", rest="fp16")],
    )
    assert "S8S8" in report.after.stages["conversion"]
    assert "the rest in FP16" in report.after.stages["conversion"]
    repository = Repository(tmp_path)
    artifact = publish_again(repository, f"digits/{report.after.version}", "tensorrt")
    plans = Plans(tmp_path / "plans")
    (built,) = build_plans(artifact, find(RTX), plans, ["8.9"], max_batch=16)
    assert built.size_bytes > 1000
    assert len(built.profiles) == 2
