"""What the README says to type is typed here."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from headrace.config import load_config
from tests.conftest import Running

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(language: str, containing: str) -> str:
    blocks: list[str] = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    return next(text for text in blocks if containing in text)


def write_own_model(folder: Path) -> None:
    """A small classifier with the inputs and labels that the README's recipe reads."""
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal(shape).astype(np.float32) for shape in ((64, 256), (256, 256), (256, 4))]
    inputs = rng.standard_normal((800, 64)).astype(np.float32)
    scores = np.maximum(np.maximum(inputs @ weights[0], 0) @ weights[1], 0) @ weights[2]
    # The half that the model is surest of: a trained one is sure of most, a random one of few, and
    # where it is not, rounding decides, which differs from CPU to CPU.
    first, second = np.sort(scores, axis=1)[:, :-3:-1].T
    chosen = np.argsort(second - first)[:400]
    inputs, scores = inputs[chosen], scores[chosen]
    names = ["x", "h1", "r1", "h2", "r2", "y"]
    kinds = ["MatMul", "Relu", "MatMul", "Relu", "MatMul"]
    nodes = [
        helper.make_node(kind, [names[n], f"w{n // 2}"] if kind == "MatMul" else [names[n]], [names[n + 1]])
        for n, kind in enumerate(kinds)
    ]
    graph = helper.make_graph(
        nodes,
        "own",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [onnx.numpy_helper.from_array(weight, f"w{n}") for n, weight in enumerate(weights)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "model.onnx")
    np.save(folder / "inputs.npy", inputs)
    np.save(folder / "labels.npy", scores.argmax(axis=1))


def test_the_recipe_of_the_readme_optimizes_a_model_of_ones_own(tmp_path: Path) -> None:
    write_own_model(tmp_path)
    (tmp_path / "recipe.py").write_text(block("python", "def model"))
    (tmp_path / "serve.yaml").write_text(block("yaml", "models:"))
    line = next(line for line in block("sh", "headrace optimize").splitlines() if "optimize" in line)
    command = [sys.executable, "-m", "deployments.cli", *line.split()[1:]]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    config = load_config(tmp_path / "serve.yaml")
    assert list(config.models) == ["mine"]
    assert sorted(path.name for path in Path(config.repository, "mine").iterdir()) == ["1", "2"]


def test_the_curl_line_of_the_readme_is_answered(running: Running) -> None:
    line = block("sh", "curl")
    body = re.search(r"-d '(.*?)'", line, re.DOTALL)
    path = re.search(r"8000(\S+)", line)
    assert body is not None
    assert path is not None
    request = urllib.request.Request(running.server.url + path[1], data=body[1].encode())
    with urllib.request.urlopen(request, timeout=30) as answer:
        document = json.load(answer)
    assert document["outputs"][0]["shape"] == [1, 384]


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)]+)\)", README))
def test_every_link_leads_somewhere(link: str) -> None:
    assert (ROOT / link).exists()
