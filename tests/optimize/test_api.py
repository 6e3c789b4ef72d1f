"""A program's own model and functions, without a recipe file."""

import numpy as np
import pytest
import torch

from engines.artifact import Repository
from engines.load import load
from headrace.errors import ConfigRejected
from optimize.api import optimize
from optimize.goals import Goals
from optimize.steps import PruneWeights, QuantizeStatic
from tests import digits


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def rows(count):
    return [{"x": image[None]} for image in digits.images()[0][:count]]


def test_a_module_is_published_with_the_best_of_its_versions(tmp_path):
    report = optimize(
        digits.trained(),
        evaluate=digits.accuracy,
        calibration=rows(64),
        out=tmp_path / "models" / "digits",
        goals=Goals(max_drop=0.05),
        steps=[QuantizeStatic(), (PruneWeights(sparsity=0.5, rounds=1), QuantizeStatic())],
        train=digits.train,
    )
    names = [row.name for row in report.candidates]
    assert names[0] == "int8-static"
    assert names[-1] == "prune-weights(sparsity=0.5, rounds=1) > int8-static"
    assert {row.status for row in report.candidates} <= {"chosen", "good", "missed"}
    repository = Repository(tmp_path / "models")
    assert repository.versions("digits") == ["1", "2"]
    for version in ("1", "2"):
        engine = load(repository.open("digits", version), threads=1)
        assert digits.accuracy(engine.run) > 0.85
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["digits"]


def test_examples_or_calibration_are_needed(tmp_path):
    with pytest.raises(ConfigRejected, match="give example_inputs or calibration"):
        optimize(digits.trained(), evaluate=digits.accuracy, out=tmp_path / "digits")


def test_what_is_wrong_is_told_as_for_a_recipe(tmp_path):
    def evaluate(predict):
        raise KeyError("label")

    with pytest.raises(ConfigRejected, match=r"the recipe: evaluate\(\) raised KeyError: 'label'"):
        optimize(digits.trained(), evaluate=evaluate, calibration=rows(4), out=tmp_path / "digits")


def test_a_module_that_is_given_functions_it_does_not_know_is_told(tmp_path):
    with pytest.raises(ConfigRejected, match="unknown: trian"):
        optimize(
            digits.trained(),
            evaluate=digits.accuracy,
            calibration=rows(4),
            out=tmp_path / "digits",
            trian=digits.train,
        )


def test_batches_of_calibration_give_examples_of_one_row(tmp_path):
    images = digits.images()[0]
    report = optimize(
        digits.trained(),
        evaluate=digits.accuracy,
        calibration=[{"x": images[start : start + 16]} for start in (0, 16)],
        out=tmp_path / "digits",
        steps=[QuantizeStatic(method="minmax", fallback=False)],
    )
    assert report.after.stages["calibration"].startswith("2 inputs")
    assert np.isfinite(report.speedup)
