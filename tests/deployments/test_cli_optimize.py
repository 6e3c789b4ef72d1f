"""Optimizing from the command line: exit codes that scripts can tell apart, and one clear message."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.processes import headrace

RECIPE = """
import os
import numpy as np
from pathlib import Path

here = Path(__file__).parent

def model():
    return here / "model.onnx"

def example_inputs():
    return [{{"x": np.ones((1, 64), np.float32)}}]

def evaluate(predict):
    {evaluate}
"""


def optimized(folder: Path, evaluate: str, *options: str) -> tuple[int, str, str]:
    """Exit code, output and errors of a run on a small product."""
    weight = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 64]) for name in "xy"]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [onnx.numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(model, folder / "model.onnx")
    (folder / "recipe.py").write_text(RECIPE.format(evaluate=evaluate))
    out = str(folder / "models" / "small")
    done = headrace("optimize", str(folder / "recipe.py"), "--out", out, *options)
    return done.returncode, done.stdout, done.stderr


def test_a_version_within_its_goals_ends_with_0(tmp_path: Path) -> None:
    code, out, err = optimized(tmp_path, "return 0.9", "--steps", "int8-dynamic", "--goal", "max_size=0.9")
    assert code == 0, err
    assert "every goal is reached" in out
    assert sorted(path.name for path in (tmp_path / "models" / "small").iterdir()) == ["1", "2"]


def test_goals_that_nothing_reached_end_with_3_and_the_table(tmp_path: Path) -> None:
    code, _, err = optimized(tmp_path, "return 0.9", "--steps", "int8-dynamic", "--goal", "min_speedup=1000")
    assert code == 3
    assert "missed min_speedup: wanted 1000" in err
    assert "Traceback" not in err


def test_an_engine_that_failed_ends_with_4(tmp_path: Path) -> None:
    code, _, err = optimized(tmp_path, "os._exit(9)")
    assert code == 4
    assert "status 9" in err


@pytest.mark.parametrize(
    ("evaluate", "options", "told"),
    [
        ("return 1 / 0", (), "recipe.py line 15: evaluate() raised ZeroDivisionError"),
        ("return 0.9", ("--steps", "int8-static"), "int8-static needs calibration() in recipe.py"),
        ("return 0.9", ("--steps", "shrink"), "step 'shrink' is unknown"),
        ("return 0.9", ("--target", "tpu"), "target 'tpu' is unknown"),
        ("return 0.9", ("--goal", "max_size=0"), "cannot be reached by anything"),
    ],
)
def test_wrong_use_ends_with_2_and_says_how_to_mend_it(
    tmp_path: Path, evaluate: str, options: tuple[str, ...], told: str
) -> None:
    code, _, err = optimized(tmp_path, evaluate, *options)
    assert code == 2
    assert told in err
    assert "Traceback" not in err
    assert not (tmp_path / "models" / "small").exists()
