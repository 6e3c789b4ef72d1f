"""The whole way, from a recipe to published versions, with real jobs and real engines."""

import json
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from rich.console import Console
from rich.progress import Progress

from engines.artifact import Repository
from engines.load import load
from examples.minilm.builder import GraphBuilder
from headrace.errors import ConfigRejected, EngineFailed, GoalMissed, NotFound
from optimize.goals import Goals
from optimize.pipeline import command_of, forget, optimize
from optimize.recipe import load_recipe
from optimize.steps import Precision, QuantizeDynamic, QuantizeStatic, parse_chain

ROOT = Path(__file__).resolve().parent.parent.parent
DYNAMIC = ((QuantizeDynamic(),),)
# Of the words that the original puts nearest, how many a version does, too: INT8 loses some.
AGREES = (
    "given = [row(9, np.random.default_rng(n)) for n in range(40)]\n"
    "    found = np.vstack([predict(g)['vector'] for g in given])\n"
    "    wanted = Path(__file__).with_name('wanted.npy')\n"
    "    if not wanted.exists(): np.save(wanted, found)\n"
    "    return float(1 - np.abs(found - np.load(wanted)).mean())"
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
    assert first.manifest.precision == "fp32"
    assert second.manifest.precision in ("int8-static", "int8-dynamic")
    assert second.manifest.parent == "1"
    assert second.manifest.grouping == "nearest"
    assert second.manifest.figures["size_ratio"] == pytest.approx(report.size_ratio)
    assert {"report.json", "report.html"} < second.manifest.files.keys()
    told = json.loads((second.folder / "report.json").read_bytes())
    assert [row["name"] for row in told["candidates"]] == ["int8-static", "int8-dynamic", "fp16"]
    assert told["command"].startswith("headrace optimize ")
    engine = load(second, threads=1)
    engine.warm_up()
    assert second.manifest.session == report.after.session


def test_the_manifests_keep_the_latencies_by_batch_and_shape(make_recipe, out):
    optimize(make_recipe(), out, chains=DYNAMIC)
    for version in ("1", "2"):
        found = Repository(out.parent).open("words", version).manifest.latencies
        assert {(entry.batch, entry.sizes["length"]) for entry in found} == {
            (batch, length) for batch in (1, 2, 4, 8) for length in (2, 9, 30)
        }
        assert all(entry.threads == 1 and entry.median_ms > 0 for entry in found)


def test_static_int8_tells_its_four_stages(make_recipe, out):
    report = optimize(make_recipe(), out, chains=[(QuantizeStatic(),)])
    stages = report.after.stages
    assert list(stages) == ["calibration", "range determination", "conversion", "validation"]
    assert stages["calibration"].startswith("12 inputs")
    assert "U8S8, 1 of 1 layers" in stages["conversion"]


def test_a_second_run_adds_nothing(make_recipe, out):
    recipe = make_recipe()
    first = optimize(recipe, out, chains=DYNAMIC)
    digests = [Repository(out.parent).open("words", version).digest for version in _versions(out)]
    second = optimize(recipe, out, chains=DYNAMIC)
    assert (first.after.version, second.after.version) == ("2", "2")
    assert digests == [Repository(out.parent).open("words", version).digest for version in _versions(out)]


def test_another_graph_becomes_two_more_versions(make_recipe, out):
    optimize(make_recipe(grouping="exact"), out, chains=DYNAMIC)
    report = optimize(make_recipe(grouping="exact", uses_mask=False), out, chains=DYNAMIC)
    assert report.after.version == "4"
    assert _versions(out) == ["1", "2", "3", "4"]


def test_a_candidate_outside_its_goals_is_not_published_and_says_why(make_recipe, out):
    goals = Goals(max_drop=0.0, min_speedup=1000, max_size=0.2501)
    with pytest.raises(GoalMissed) as missed:
        optimize(make_recipe(AGREES), out, goals, chains=DYNAMIC)
    assert "max_drop: wanted 0, reached" in str(missed.value)
    assert "min_speedup: wanted 1000" in str(missed.value)
    assert "max_size: wanted 0.2501" in str(missed.value)
    assert _versions(out) == ["1"]


def test_a_failed_budget_is_first_met_by_smoothing(make_recipe, out):
    with pytest.raises(GoalMissed, match=r"int8-static \+ smooth"):
        optimize(make_recipe(AGREES), out, Goals(max_drop=0.0), chains=[(QuantizeStatic(),)])


def test_without_calibration_static_int8_is_refused_and_the_rest_goes_on(make_recipe, out):
    recipe = make_recipe(more="del calibration")
    report = optimize(recipe, out, Goals(max_size=0.3))
    refused = report.candidates[0]
    assert (refused.name, refused.status) == ("int8-static", "refused")
    assert "needs calibration() in recipe.py" in refused.reason
    assert report.after.name == "int8-dynamic"


def test_a_wrong_calibration_input_ends_the_run_with_its_line(make_recipe, out):
    recipe = make_recipe(calibration="return [row(3), {'ids': 5}]")
    with pytest.raises(ConfigRejected, match=r"recipe\.py line \d+: calibration input 1 does not fit"):
        optimize(recipe, out)


def test_a_crash_of_one_candidate_is_a_row_and_not_the_end(make_recipe, out):
    # The engine of the INT8 graph dies, the way a bad kernel does.
    dies = (
        "import os, signal\n"
        "    vectors = predict(row(9, np.random.default_rng(0)))['vector']\n"
        "    wanted = Path(__file__).with_name('wanted.npy')\n"
        "    if not wanted.exists(): np.save(wanted, vectors)\n"
        "    if np.abs(np.load(wanted) - vectors).max() > 0.03: os.kill(os.getpid(), signal.SIGFPE)\n"
        "    return 0.9"
    )
    report = optimize(make_recipe(dies), out, chains=[*DYNAMIC, (Precision(),)])
    crashed, stored = report.candidates
    assert crashed.status == "failed"
    assert "SIGFPE" in crashed.reason
    assert stored.status == "chosen"


def test_when_every_candidate_crashes_the_engine_is_to_blame(make_recipe, out):
    once = (
        "import os\n"
        "    mark = Path(__file__).with_name('mark')\n"
        "    if mark.exists(): os._exit(3)\n"
        "    mark.touch()\n"
        "    return 0.9"
    )
    recipe = make_recipe(once)
    with pytest.raises(EngineFailed, match=r"int8-dynamic: .*status 3"):
        optimize(recipe, out, chains=DYNAMIC)
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
    with pytest.raises(ConfigRejected, match="use int8-static, or serve this model as FP32"):
        optimize(load_recipe(tmp_path / "recipe.py"), out, chains=DYNAMIC)
    assert _versions(out) == ["1"]


def test_external_weights_are_optimized_too(make_recipe, out, tmp_path):
    make_recipe()
    path = tmp_path / "words.onnx"
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="weights.bin")
    report = optimize(load_recipe(tmp_path / "recipe.py"), out, Goals(max_size=0.3))
    assert report.size_ratio < 0.3
    assert "weights.bin" in Repository(out.parent).open("words", "1").manifest.files


def test_each_long_step_has_a_finished_line_of_progress(make_recipe, out):
    with Progress(console=Console(quiet=True)) as progress:
        optimize(make_recipe(), out, progress=progress)
    lines = [task.description for task in progress.tasks]
    assert "calibration: inputs, twice" in lines
    assert "int8-static: accuracy" in lines
    assert progress.finished


def test_the_models_name_must_be_a_name(make_recipe, tmp_path):
    with pytest.raises(ConfigRejected, match="name"):
        optimize(make_recipe(), tmp_path / "a b")


def test_an_output_folder_that_is_a_file_is_told(make_recipe, tmp_path):
    (tmp_path / "models").write_text("")
    with pytest.raises(ConfigRejected, match="'models' is a file"):
        optimize(make_recipe(), tmp_path / "models" / "words")
    (tmp_path / "other").write_text("")
    with pytest.raises(ConfigRejected, match="'other' is a file"):
        optimize(make_recipe(), tmp_path / "other")


def test_a_version_that_exists_is_not_overwritten(make_recipe, out):
    recipe = make_recipe()
    assert optimize(recipe, out, chains=DYNAMIC, version="small").after.version == "small"
    with pytest.raises(ConfigRejected, match="version 'words/small' exists"):
        optimize(recipe, out, chains=DYNAMIC, version="small")


@pytest.mark.parametrize(
    ("goals", "chains", "told"),
    [
        (Goals(max_size=0.1), DYNAMIC, "int8-dynamic stores 0.25 of the original's size at least"),
        (Goals(max_drop=0.1, min_accuracy=0.95), DYNAMIC, "the goals contradict each other"),
    ],
)
def test_goals_that_cannot_be_met_are_told_before_the_work(make_recipe, out, goals, chains, told):
    with pytest.raises(ConfigRejected, match=told):
        optimize(make_recipe(), out, goals, chains=chains)
    with pytest.raises(NotFound):
        _versions(out)


def test_a_target_that_is_not_here_is_skipped_with_the_reason(make_recipe, out):
    report = optimize(make_recipe(), out, chains=DYNAMIC, targets=["tensorrt", "onnxruntime"])
    skipped, chosen = report.candidates
    assert (skipped.engine, skipped.status) == ("tensorrt", "skipped")
    assert skipped.reason
    assert chosen.status == "chosen"
    with pytest.raises(EngineFailed, match=r"no target can be used here: tensorrt: .*headrace plan"):
        optimize(make_recipe(), out, targets=["tensorrt"])
    with pytest.raises(ConfigRejected, match="allowed: onnxruntime, openvino, tensorrt"):
        optimize(make_recipe(), out, targets=["tpu"])


def test_the_command_that_repeats_it_says_all_that_was_asked_for(make_recipe, out, monkeypatch, tmp_path):
    from optimize.pipeline import Asked

    monkeypatch.chdir(tmp_path)
    chain = parse_chain("distill > int8-static(method=entropy)")
    asked = Asked(Goals(max_drop=0.01), (chain,), ("onnxruntime", "openvino"), None)
    assert command_of(make_recipe(), out, asked) == (
        "headrace optimize recipe.py --out models/words --goal max_drop=0.01 --target onnxruntime "
        "--target openvino --steps 'distill > int8-static(method=entropy)'"
    )


def test_forgetting_begins_anew_and_leaves_what_was_published(make_recipe, out):
    optimize(make_recipe(), out, chains=DYNAMIC)
    forget(out)
    assert _versions(out) == ["1", "2"]
    assert not (out.parent / ".optimize" / "words").exists()


def test_killed_at_any_moment_and_started_again_it_ends_at_the_same_digest(make_recipe, tmp_path):
    make_recipe()
    command = [sys.executable, "-m", "deployments.cli", "optimize", str(tmp_path / "recipe.py"), "--out"]
    command += ["models/words", "--steps", "int8-static"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    for folder in (whole, cut):
        folder.mkdir()
    started = time.monotonic()
    subprocess.run(command, cwd=whole, env=environment, check=True, capture_output=True, timeout=120)
    takes = time.monotonic() - started
    random = np.random.default_rng(0)
    for _ in range(4):
        run = subprocess.Popen(
            command, cwd=cut, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(random.uniform(0.1, 0.9) * takes)  # the moment of the kill is what is tried
        run.send_signal(signal.SIGKILL)
        run.wait()
    subprocess.run(command, cwd=cut, env=environment, check=True, capture_output=True, timeout=120)
    digests = [
        [Repository(folder / "models").open("words", version).digest for version in ("1", "2")]
        for folder in (whole, cut)
    ]
    assert digests[0] == digests[1]
    assert sorted(path.name for path in (cut / "models" / "words").iterdir()) == ["1", "2"]
