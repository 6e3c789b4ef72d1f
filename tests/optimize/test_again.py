"""A recipe once more: only what is better than the present version is published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engines.artifact import Repository
from headrace.errors import ConfigRejected, GoalMissed
from optimize.again import reoptimize
from optimize.goals import Goals
from optimize.inputs import write_inputs
from optimize.pipeline import optimize
from optimize.publish import next_version
from optimize.recipe import load_recipe
from optimize.steps import Precision, QuantizeDynamic, QuantizeStatic

DYNAMIC = ((QuantizeDynamic(),),)


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path / "models")


@pytest.fixture
def original(make_recipe, repository):
    """A recipe, and version 1: its original."""
    recipe = make_recipe()
    with pytest.raises(GoalMissed):
        optimize(recipe, repository.root / "words", Goals(min_speedup=1000), chains=DYNAMIC)
    assert repository.versions("words") == ["1"]
    return recipe


def test_a_smaller_version_is_published_beside_the_original_that_answers(original, repository):
    outcome = reoptimize(
        original, repository.open("words", "1"), repository, Goals(max_size=0.5), chains=DYNAMIC
    )
    assert outcome.version == "2"
    made = repository.open("words", "2").manifest
    assert made.parent == "1"
    assert made.precision == "int8-dynamic"
    assert {"report.json", "report.html"} < made.files.keys()
    assert made.figures["size_ratio"] < 0.5
    assert "misses its goals by now: max_size" in outcome.why
    assert [path.name for path in (repository.root / "words").iterdir() if path.name.startswith(".")] == []


def test_what_is_no_better_is_not_published(original, repository):
    first = reoptimize(
        original, repository.open("words", "1"), repository, Goals(max_size=0.5), chains=DYNAMIC
    )
    again = reoptimize(
        original, repository.open("words", first.version), repository, Goals(max_size=0.5), chains=DYNAMIC
    )
    assert again.version is None
    assert again.why == "version 2 is as good"
    assert repository.versions("words") == ["1", "2"]


def test_a_version_that_is_there_already_is_named_and_not_published_twice(original, repository):
    for _ in range(2):
        found = reoptimize(
            original, repository.open("words", "1"), repository, Goals(max_size=0.5), chains=DYNAMIC
        )
        assert found.version == "2"
    assert repository.versions("words") == ["1", "2"]


def test_without_a_version_within_the_goals_nothing_is_published(original, repository):
    with pytest.raises(GoalMissed):
        reoptimize(
            original, repository.open("words", "1"), repository, Goals(min_speedup=1000), chains=DYNAMIC
        )
    assert repository.versions("words") == ["1"]


def test_static_int8_is_calibrated_with_the_inputs_of_a_file(original, repository, tmp_path):
    ids = np.array([[5, 6, 7, 8]])
    rows = [{"ids": ids + number, "mask": np.ones_like(ids)} for number in range(21)]
    write_inputs(tmp_path / "recent.npz", rows)
    recipe = load_recipe(original.path, tmp_path / "recent.npz")
    outcome = reoptimize(
        recipe, repository.open("words", "1"), repository, Goals(), chains=((QuantizeStatic(),),)
    )
    assert outcome.report.after.stages["calibration"].startswith("21 inputs")


def test_a_recipe_for_other_tensors_is_refused_before_anything_is_published(original, repository):
    text = original.path.read_text().replace('{"length": 32}', '{"length": 64}')
    other = Path(original.path).with_name("other.py")
    other.write_text(text)
    with pytest.raises(ConfigRejected, match="takes or gives other tensors than 'words/1'"):
        reoptimize(
            load_recipe(other),
            repository.open("words", "1"),
            repository,
            Goals(),
            chains=((Precision("fp16"),),),
        )
    assert repository.versions("words") == ["1"]


def test_the_next_version_is_the_number_after_the_largest(repository, original):
    assert next_version(repository, "words") == "2"
