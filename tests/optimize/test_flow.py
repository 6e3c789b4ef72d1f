"""Chains of steps on real labelled digits: what each leaves, and what becomes of one that fails."""

from pathlib import Path
from shutil import copyfile

import pytest
import torch

from engines.artifact import Repository
from engines.load import load
from headrace.errors import ConfigRejected
from optimize.goals import Goals
from optimize.pipeline import optimize
from optimize.recipe import load_recipe
from optimize.steps import parse_chain
from tests import digits

ROOT = Path(__file__).resolve().parent.parent.parent

# torch is imported by what trains only: most jobs do without it.
RECIPE = """
import sys
from pathlib import Path
sys.path.append({root!r})
from tests import digit_images

outputs = ["logits"]

def model():
    from tests import digits
    return digits.trained(Path(__file__).with_name("weights.safetensors"))

def student():
    from tests import digits
    return digits.Network(width=8, seed=1)

def example_inputs():
    return [{{"x": image[None]}} for image in digit_images.images()[0][:4]]

def calibration():
    return [{{"x": image[None]}} for image in digit_images.images()[0][:32]]

def evaluate(predict):
    return digit_images.accuracy(predict)

validate = evaluate

def train(model, epochs, after_batch):
    from tests import digits
    digits.train(model, epochs, after_batch)

def unlabelled(epoch):
    images = digit_images.images()[0]
    return ({{"x": images[start:start + 100]}} for start in range(0, 1500, 100))

{more}
"""


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A network that was trained once for all of these tests."""
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("digits") / "weights.safetensors"
    digits.trained(path)
    return path


@pytest.fixture
def run(tmp_path, weights):
    """Optimize the digits by these chains; the report and the repository."""

    def optimized(*chains, goals=None, more="", targets=("onnxruntime",)):
        copyfile(weights, tmp_path / "weights.safetensors")
        (tmp_path / "recipe.py").write_text(RECIPE.format(root=str(ROOT), more=more))
        recipe = load_recipe(tmp_path / "recipe.py")
        out = tmp_path / "models" / "digits"
        parsed = [parse_chain(chain) for chain in chains]
        return optimize(recipe, out, goals, chains=parsed, targets=targets), Repository(out.parent)

    return optimized


def test_a_chain_leaves_a_version_after_each_step(run):
    report, repository = run("distill(epochs=6) > prune-channels(ratio=0.25, rounds=1) > int8-static")
    names = [row.name for row in report.candidates]
    assert names[0] == "distill(epochs=6)"
    assert names[1] == "distill(epochs=6) > prune-channels(ratio=0.25, rounds=1)"
    assert names[2] == f"{names[1]} > int8-static"
    taught, pruned, quantized = report.candidates[:3]
    assert taught.facts["teacher_parameters"] / taught.facts["parameters"] > 5
    assert pruned.facts["parameters"] < taught.facts["parameters"]
    assert list(quantized.stages)[:2] == ["distillation", "structured pruning"]
    assert [row.measured.size_bytes for row in (taught, pruned)] == sorted(
        [row.measured.size_bytes for row in (taught, pruned)], reverse=True
    )
    published = load(repository.open("digits", report.after.version), threads=1)
    assert digits.accuracy(published.run) == pytest.approx(report.after.measured.accuracy)


def test_pruned_weights_are_zeros_that_compress_and_gain_no_speed_which_is_told(run):
    report, _ = run("prune-weights(sparsity=0.8, rounds=2)")
    pruned = report.after
    assert pruned.facts["sparsity"] == pytest.approx(0.8, abs=0.005)
    assert pruned.facts["compressed_bytes"] < 0.6 * pruned.measured.size_bytes
    assert "no speed is gained" in pruned.stages["pruning"]


def test_a_step_that_fails_names_what_had_run_and_keeps_it(run):
    more = "def heads(model): raise RuntimeError('no heads here')"
    report, repository = run("distill(epochs=1) > prune-channels > int8-static", more=more)
    kept, failed = report.candidates
    assert (kept.name, kept.status) == ("distill(epochs=1)", "chosen")
    assert failed.status == "refused"
    assert failed.reason.startswith("after distill: recipe.py line ")
    assert "heads() raised RuntimeError: no heads here" in failed.reason
    assert repository.versions("digits") == ["1", "2"]


# Accuracy is nearness to the original's answers, which INT8 in every layer loses the most of.
NEARNESS = """
def evaluate(predict):
    images = digit_images.images()[0][1500:1600]
    (found,) = predict({"x": images}).values()
    wanted = Path(__file__).with_name("wanted.npy")
    if not wanted.exists():  # the original is judged first
        digit_images.np.save(wanted, found)
    return float(1 - abs(found - digit_images.np.load(wanted)).mean())
"""


def test_when_the_budget_fails_the_worst_layers_go_back_to_fp32(run):
    whole, _ = run("int8-static(per_channel=False, fallback=False)", more=NEARNESS)
    assert not whole.sensitivity
    goals = Goals(max_drop=0.9 * whole.drop)
    report, _ = run("int8-static(per_channel=False)", more=NEARNESS, goals=goals)
    names = [row.name for row in report.candidates]
    assert names == ["int8-static(per_channel=False)", "int8-static(per_channel=False), 1 layer in FP32"]
    assert report.candidates[0].status == "missed"
    assert len(report.sensitivity) == 3
    assert report.after.stages["conversion"].endswith(f"in FP32: {report.sensitivity[0].name}")
    assert report.drop <= goals.max_drop


def test_steps_that_train_need_a_module_and_train(run, tmp_path):
    with pytest.raises(ConfigRejected, match=r"prune-weights needs train\(\) in recipe\.py"):
        run("prune-weights", more="del train")


def test_the_students_network_must_be_a_module(run):
    with pytest.raises(ConfigRejected, match=r"recipe\.py line \d+: student\(\) returned int"):
        run("distill", more="def student(): return 3")
