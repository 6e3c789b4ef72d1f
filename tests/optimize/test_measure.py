import numpy as np
import pytest

from engines.artifact import Repository
from engines.load import load
from headrace.errors import ConfigRejected, TensorRejected
from headrace.tensors import Signature, TensorSpec
from optimize.measure import (
    TOGGLES,
    Measured,
    accuracy,
    agreement,
    check_padding,
    latencies,
    padded_agreement,
    warm_up_sizes,
    with_session,
)
from optimize.progress import Line

LINE = Line(None, "")


@pytest.fixture
def artifact_of(tmp_path):
    def published(recipe):
        return Repository(tmp_path / "models").publish(
            "words", "1", recipe.files, graph=recipe.graph, signature=recipe.signature
        )

    return published


@pytest.fixture
def engine_of(artifact_of):
    return lambda recipe: load(artifact_of(recipe), threads=1)


class Shifted:
    """An engine whose every answer is another one's, plus a constant."""

    def __init__(self, engine, shift):
        self.signature = engine.signature
        self._engine, self._shift = engine, shift

    def run(self, batch, outputs=()):
        return {name: array + self._shift for name, array in self._engine.run(batch, outputs).items()}


def test_a_model_that_uses_its_mask_may_be_padded(make_recipe, engine_of):
    recipe = make_recipe()
    assert check_padding(engine_of(recipe), recipe.examples) < 1e-5


def test_a_model_that_ignores_its_mask_may_not(make_recipe, engine_of):
    recipe = make_recipe(uses_mask=False)
    with pytest.raises(ConfigRejected, match="ignores its mask"):
        check_padding(engine_of(recipe), recipe.examples)


def test_a_model_without_a_batch_may_not_be_padded():
    class Fixed:
        signature = Signature((TensorSpec("x", "FP32", (1, 2)),), ())

    with pytest.raises(ConfigRejected, match='first dimension is "batch"'):
        check_padding(Fixed(), [])


def test_an_engine_agrees_with_itself_alone_and_padded(make_recipe, engine_of):
    recipe = make_recipe()
    engine = engine_of(recipe)
    assert agreement(engine, engine, recipe.examples) == pytest.approx((1, 1))
    assert padded_agreement(engine, engine, recipe.examples) == pytest.approx((1, 1))


def test_disagreement_is_told_by_its_mean_and_its_worst(make_recipe, engine_of):
    recipe = make_recipe()
    engine = engine_of(recipe)
    mean, least = agreement(engine, Shifted(engine, 1.0), recipe.examples)
    assert least < mean < 0.999


def test_latency_is_measured_for_each_engine(make_recipe, engine_of):
    recipe = make_recipe()
    engine = engine_of(recipe)
    found = latencies([engine, engine], recipe.examples, 3, LINE)
    assert len(found) == 2
    assert all(0 < milliseconds < 1000 for milliseconds in found)


def test_rows_per_second_follow_from_latency():
    assert Measured(size_bytes=1, latency_ms=4.0, accuracy=1.0).rows_per_s == 250


def test_evaluate_gets_checked_predictions(make_recipe, engine_of):
    recipe = make_recipe()
    engine = engine_of(recipe)
    assert accuracy(engine, lambda predict: predict(recipe.examples[0])["vector"].shape[1], LINE) == 64
    wrong = {**recipe.examples[0], "ids": np.full_like(recipe.examples[0]["ids"], 5000)}
    with pytest.raises(TensorRejected, match="values from"):
        accuracy(engine, lambda predict: float(predict(wrong)["vector"][0, 0]), LINE)


@pytest.mark.parametrize(
    ("evaluate", "told"), [(lambda _: 1 / 0, "ZeroDivisionError"), (lambda _: float("nan"), "nan")]
)
def test_an_evaluate_that_gives_no_number_is_told(make_recipe, engine_of, evaluate, told):
    with pytest.raises(ConfigRejected, match=told):
        accuracy(engine_of(make_recipe()), evaluate, LINE)


def test_a_toggle_changes_session_and_digest_but_no_file(make_recipe, artifact_of):
    artifact = artifact_of(make_recipe())
    default, toggled = (with_session(artifact, session) for session in TOGGLES)
    assert default.digest == artifact.digest != toggled.digest
    assert toggled.manifest.session.disabled_optimizers == ("SkipLayerNormFusion",)
    load(toggled, threads=1).warm_up()


def test_warm_up_covers_short_long_and_batched(make_recipe):
    recipe = make_recipe()
    assert warm_up_sizes(recipe.signature, recipe.examples) == (
        {"batch": 1, "length": 2},
        {"batch": 1, "length": 9},
        {"batch": 1, "length": 30},
        {"batch": 8, "length": 30},
    )
    assert len(warm_up_sizes(recipe.signature, recipe.examples[:1])) == 2
