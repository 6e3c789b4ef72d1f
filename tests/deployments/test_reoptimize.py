"""A model made anew of what callers have sent, by the command."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from deployments.load import closed_loop, infer_request
from deployments.ports import free_ports
from engines.artifact import Repository
from optimize.inputs import write_inputs
from optimize.publish import publish
from tests.processes import headrace, started
from tests.waiting import wait_until

WIDTH, HIDDEN, CLASSES = 64, 256, 4
RECIPE = """
from pathlib import Path
import numpy as np

folder = Path(__file__).parent

def model():
    return folder / "own.onnx"

def example_inputs():
    return [{"x": row[None]} for row in np.load(folder / "inputs.npy")[:4]]

def evaluate(predict):
    found = predict({"x": np.load(folder / "inputs.npy")})["y"].argmax(1)
    return float((found == np.load(folder / "labels.npy")).mean())
"""


def rows(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, WIDTH)).astype(np.float32)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Of a small classifier whose original is version 1 of `own`; it has no calibration()."""
    random = np.random.default_rng(0)
    weights = [
        random.standard_normal(shape).astype(np.float32) for shape in ((WIDTH, HIDDEN), (HIDDEN, CLASSES))
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "w1"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "own",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", CLASSES])],
        [onnx.numpy_helper.from_array(weight, f"w{number}") for number, weight in enumerate(weights)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "own.onnx")
    inputs = rows(1, 200)
    np.save(tmp_path / "inputs.npy", inputs)
    np.save(tmp_path / "labels.npy", (np.maximum(inputs @ weights[0], 0) @ weights[1]).argmax(1))
    publish(tmp_path / "own.onnx", Repository(tmp_path / "models"), "own")
    file = tmp_path / "recipe.py"
    file.write_text(RECIPE)
    return file


GOALS = ("--goal", "max_size=0.5", "--goal", "max_drop=0.1", "--steps", "int8-static")


def test_recent_inputs_of_a_server_make_a_version_and_it_is_rolled_out(recipe: Path) -> None:
    folder = recipe.parent
    port, *_ = free_ports(1)
    config = folder / "serve.yaml"
    config.write_text(
        f"repository: models\ngateways: 1\nhttp: {{port: {port}}}\nmodels: {{own: {{keep_inputs: 50}}}}\n"
    )
    with started("serve", str(config)) as run:
        # The last of what it says; the terminal's lines may break anywhere.
        said = re.compile(r"ray\.init\('([^']+)'\)")
        wait_until(lambda: said.search(run.text().replace("\n", "")) is not None, "that it serves", 120)
        found = said.search(run.text().replace("\n", ""))
        assert found, run.text()
        requests = [infer_request("test", "own", {"x": row[None]}) for row in rows(2, 40)]
        assert asyncio.run(closed_loop("127.0.0.1", port, requests, 4)).num_failed == 0
        where = "--address", found[1]
        report = folder / "report.json"
        done = headrace(
            *("reoptimize", "own", "--recipe", str(recipe), "--repository", str(folder / "models")),
            *(*where, "--rollout", *GOALS, "--json", str(report)),
            timeout_s=300,
        )
        assert done.returncode == 0, done.stderr
        assert "own/2: " in done.stdout
        stages = json.loads(report.read_text())["candidates"][0]["stages"]
        assert stages["calibration"].startswith("40 inputs")
        status = headrace("rollout", "status", "own", *where, "--json")
        assert status.returncode == 0, status.stderr
        assert json.loads(status.stdout)["rollout"]["candidate"] == "2"


def test_a_file_of_inputs_does_too_and_nothing_is_published_twice(recipe: Path) -> None:
    folder = recipe.parent
    write_inputs(folder / "recent.npz", [{"x": row[None]} for row in rows(3, 30)])
    command = (
        *("reoptimize", "own", "--recipe", str(recipe), "--repository", str(folder / "models")),
        *("--inputs", str(folder / "recent.npz"), *GOALS),
    )
    done = headrace(*command, timeout_s=300)
    assert done.returncode == 0, done.stderr
    assert "headrace rollout start own --to 2" in done.stdout
    again = headrace(*command, timeout_s=300)  # the newest answers: version 2
    assert again.returncode == 0, again.stderr
    assert "nothing is published: version 2 is as good" in again.stdout
    assert Repository(folder / "models").versions("own") == ["1", "2"]


def test_goals_out_of_reach_publish_nothing(recipe: Path) -> None:
    folder = recipe.parent
    done = headrace(
        *("reoptimize", "own", "--recipe", str(recipe), "--repository", str(folder / "models")),
        *("--goal", "min_speedup=1000", "--steps", "int8-dynamic"),
        timeout_s=300,
    )
    assert done.returncode == 3
    assert Repository(folder / "models").versions("own") == ["1"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--rollout",), "--rollout needs --address"),
        (("--inputs", "none.npz"), "no file of inputs 'none.npz'"),
        (("--goal", "max_dorp=1"), "max_drop=NUMBER"),
    ],
)
def test_wrong_use_is_told_before_any_work(recipe: Path, options: tuple[str, ...], told: str) -> None:
    done = headrace(
        *("reoptimize", "own", "--recipe", str(recipe)),
        *("--repository", str(recipe.parent / "models"), *options),
    )
    assert done.returncode == 2
    assert told in done.stderr


def test_no_inputs_are_no_calibration(recipe: Path) -> None:
    write_inputs(recipe.parent / "empty.npz", [])
    done = headrace(
        *("reoptimize", "own", "--recipe", str(recipe), "--repository", str(recipe.parent / "models")),
        *("--inputs", str(recipe.parent / "empty.npz")),
    )
    assert done.returncode == 2
    assert "no input is kept yet" in done.stderr
