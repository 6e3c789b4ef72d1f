"""A small text classifier as a recipe: vectors of words, the mean over real tokens, two classes."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from examples.minilm.builder import GraphBuilder
from headrace.tensors import Array, Signature
from optimize.prepare import read_examples
from optimize.recipe import Recipe, load_recipe
from optimize.rooms import ROOMS, SIGNATURE, Room

WORDS, WIDTH = 2000, 64

# What calibration() gives, and what a test may put in its place.
CALIBRATION = "return [row(2 + n % 9, random) for n in range(12)]"

RECIPE = """
import numpy as np
from pathlib import Path
from headrace.tensors import Signature, TensorSpec

grouping = {grouping!r}
random = np.random.default_rng(0)

def model():
    return Path(__file__).with_name("words.onnx")

def signature():
    ids = TensorSpec("ids", "INT64", ("batch", "length"), low=0, high=1999)
    mask = TensorSpec("mask", "INT64", ("batch", "length"), low=0, high=1)
    return Signature((ids, mask), (TensorSpec("vector", "FP32", ("batch", 64)),), {{"length": 32}})

def row(length, random=random):
    ids = random.integers(0, 2000, (1, length))
    return {{"ids": ids, "mask": np.ones_like(ids)}}

def example_inputs():
    return [row(length) for length in (2, 5, 9, 30)]

def calibration():
    random = np.random.default_rng(1)
    {calibration}

def evaluate(predict):
    {evaluate}
"""


@pytest.fixture(scope="session")
def write_graph() -> Callable[..., Path]:
    """Write the graph; without the mask its answers depend on padding."""

    def write(path: Path, uses_mask: bool = True) -> Path:
        random = np.random.default_rng(0)
        graph = GraphBuilder()
        table = graph.constant("table", random.standard_normal((WORDS, WIDTH)).astype(np.float32))
        weight = graph.constant("weight", random.standard_normal((WIDTH, WIDTH)).astype(np.float32))
        cast = graph.op("Cast", "mask", to=TensorProto.FLOAT)
        if not uses_mask:
            cast = graph.op("Exp", graph.op("Mul", cast, graph.scalar("nothing", 0.0)))
        mask = graph.op("Unsqueeze", cast, graph.integers(2))
        one = graph.integers(1)
        words = graph.op("Mul", graph.op("Gather", table, "ids"), mask)
        count = graph.op("ReduceSum", mask, one, keepdims=0)
        mean = graph.op("Div", graph.op("ReduceSum", words, one, keepdims=0), count)
        graph.op("MatMul", mean, weight, output="vector")
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch_size", "length"])
            for name in ("ids", "mask")
        ]
        outputs = [helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["batch_size", WIDTH])]
        path.write_bytes(graph.model(inputs, outputs, 20, 9).SerializeToString())
        return path

    return write


@pytest.fixture
def make_recipe(tmp_path: Path, write_graph: Callable[..., Path]) -> Callable[..., Recipe]:
    """A loaded recipe over the small graph; `more` is added at its end."""

    def make(
        evaluate: str = "return 0.9",
        grouping: str = "nearest",
        uses_mask: bool = True,
        calibration: str = CALIBRATION,
        more: str = "",
    ) -> Recipe:
        write_graph(tmp_path / "words.onnx", uses_mask)
        text = RECIPE.format(evaluate=evaluate, grouping=grouping, calibration=calibration)
        (tmp_path / "recipe.py").write_text(f"{text}\n{more}\n")
        return load_recipe(tmp_path / "recipe.py")

    return make


@dataclass(frozen=True)
class Prepared:
    """What the first job makes of a recipe."""

    graph: Path
    signature: Signature
    examples: tuple[dict[str, Array], ...]
    facts: dict[str, Any]


@pytest.fixture
def prepare(tmp_path: Path) -> Callable[[Recipe], Prepared]:
    """Run the first job in this process."""

    def run(recipe: Recipe) -> Prepared:
        folder = Path(mkdtemp(dir=tmp_path))
        facts = ROOMS["prepare"](Room(recipe, {}, {}, folder, None))
        signature = SIGNATURE.validate_python(facts["signature"], strict=False)
        return Prepared(folder / "graph" / facts["graph"], signature, read_examples(recipe, signature), facts)

    return run
