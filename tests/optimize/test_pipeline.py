import json
from functools import partial

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from rich.console import Console
from rich.progress import Progress

from engines.artifact import Repository
from engines.load import load
from examples.minilm.builder import GraphBuilder
from headrace.errors import ConfigRejected, GoalMissed, NotFound
from optimize.goals import Goals
from optimize.pipeline import optimize
from optimize.recipe import load_recipe

# 0.9 for the original, which is judged first, and 0.5 for the candidate.
WORSE_AT_SECOND = (
    "evaluate.calls = getattr(evaluate, 'calls', 0) + 1; return 0.9 if evaluate.calls == 1 else 0.5"
)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "models" / "words"


def _versions(out):
    return Repository(out.parent).versions(out.name)


def test_original_and_candidate_are_published_with_figures_and_reports(make_recipe, out):
    report = optimize(make_recipe(), out, Goals(max_drop=0.01, max_size=0.3))
    repository = Repository(out.parent)
    first, second = (repository.open("words", version) for version in ("1", "2"))
    assert (first.manifest.precision, second.manifest.precision) == ("fp32", "int8-dynamic")
    assert second.manifest.parent == "1"
    assert second.manifest.grouping == "nearest"
    assert second.manifest.figures["size_ratio"] == pytest.approx(report.size_ratio)
    assert {"report.json", "report.html"} < second.manifest.files.keys()
    told = json.loads((second.folder / "report.json").read_bytes())
    assert told["after"]["version"] == "2"
    assert told["after"]["accuracy"] == 0.9
    assert told["command"].startswith("headrace optimize ")
    engine = load(second, threads=1)
    engine.warm_up()
    assert second.manifest.session == report.after.session


def test_a_second_run_adds_nothing(make_recipe, out):
    recipe = make_recipe()
    first = optimize(recipe, out)
    digests = [Repository(out.parent).open("words", version).digest for version in _versions(out)]
    second = optimize(recipe, out)
    assert (first.after.version, second.after.version) == ("2", "2")
    assert digests == [Repository(out.parent).open("words", version).digest for version in _versions(out)]


def test_another_graph_becomes_two_more_versions(make_recipe, out):
    optimize(make_recipe(grouping="exact"), out)
    assert optimize(make_recipe(grouping="exact", uses_mask=False), out).after.version == "4"
    assert _versions(out) == ["1", "2", "3", "4"]


def test_a_candidate_outside_its_goals_is_not_published_and_says_why(make_recipe, out):
    goals = Goals(max_drop=0.01, min_speedup=1000, max_size=0.001)
    with pytest.raises(GoalMissed) as missed:
        optimize(make_recipe(WORSE_AT_SECOND), out, goals)
    assert "missed max_drop: wanted 0.01, reached 0.4" in str(missed.value)
    assert "missed min_speedup: wanted 1000" in str(missed.value)
    assert "missed max_size: wanted 0.001" in str(missed.value)
    assert _versions(out) == ["1"]


def test_nearest_is_refused_for_a_model_that_ignores_its_mask(make_recipe, out):
    with pytest.raises(ConfigRejected, match="ignores its mask"):
        optimize(make_recipe(uses_mask=False), out)
    with pytest.raises(NotFound):
        _versions(out)


def test_a_convolution_is_published_as_it_is_and_its_candidate_refused(tmp_path, out):
    graph = GraphBuilder()
    graph.op("Conv", "x", graph.constant("kernel", np.ones((2, 3, 3, 3), np.float32)), output="y")
    value = partial(helper.make_tensor_value_info, elem_type=TensorProto.FLOAT)
    shapes = {"x": ["N", 3, 8, 8], "y": ["N", 2, 6, 6]}
    x, y = (value(name, shape=shape) for name, shape in shapes.items())
    onnx.save(graph.model([x], [y], 20, 9), tmp_path / "conv.onnx")
    (tmp_path / "recipe.py").write_text(
        "import numpy as np\n"
        "from pathlib import Path\n"
        "def model(): return str(Path(__file__).with_name('conv.onnx'))\n"
        "def example_inputs(): return [{'x': np.ones((1, 3, 8, 8), np.float32)}]\n"
        "def evaluate(predict): return 1.0\n"
    )
    with pytest.raises(ConfigRejected, match="serve this model as FP32"):
        optimize(load_recipe(tmp_path / "recipe.py"), out)
    assert _versions(out) == ["1"]


def test_external_weights_are_optimized_too(make_recipe, out, tmp_path):
    path = make_recipe().files["words.onnx"]
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="weights.bin")
    report = optimize(load_recipe(tmp_path / "recipe.py"), out, Goals(max_size=0.3))
    assert report.size_ratio < 0.3
    assert "weights.bin" in Repository(out.parent).open("words", "1").manifest.files


def test_each_long_step_has_a_finished_line_of_progress(make_recipe, out):
    with Progress(console=Console(quiet=True)) as progress:
        optimize(make_recipe(), out, progress=progress)
    assert len(progress.tasks) == 5
    assert progress.finished


def test_the_models_name_must_be_a_name(make_recipe, tmp_path):
    with pytest.raises(ConfigRejected, match="name"):
        optimize(make_recipe(), tmp_path / "a b")
