import numpy as np
import pytest

from engines.artifact import unpublished
from engines.load import load
from headrace.errors import ConfigRejected, TensorRejected
from headrace.tensors import Signature, TensorSpec
from optimize.measure import (
    TOGGLES,
    Measured,
    Turns,
    accuracy,
    agreement,
    batch_latencies,
    check_padding,
    latencies,
    padded_agreement,
    toggles_for,
    warm_up_sizes,
    with_session,
)
from optimize.progress import Line
from optimize.recipe import recipe_of

LINE = Line(None, "")


@pytest.fixture
def artifact_of(prepare):
    def lying(recipe):
        made = prepare(recipe)
        return unpublished(
            made.graph.parent,
            name="words",
            version="1",
            graph=made.graph.name,
            signature=made.signature,
            engine="onnxruntime",
            precision="fp32",
        )

    return lying


@pytest.fixture
def engine_of(artifact_of):
    return lambda recipe: load(artifact_of(recipe), threads=1)


@pytest.fixture
def loaded(make_recipe, prepare, engine_of):
    """A recipe's engine and its examples."""

    def load_it(**settings):
        recipe = make_recipe(**settings)
        return engine_of(recipe), prepare(recipe).examples

    return load_it


class Shifted:
    """An engine whose every answer is another one's, plus a constant."""

    def __init__(self, engine, shift):
        self.signature = engine.signature
        self._engine, self._shift = engine, shift

    def run(self, batch, outputs=()):
        return {name: array + self._shift for name, array in self._engine.run(batch, outputs).items()}


def test_a_model_that_uses_its_mask_may_be_padded(loaded):
    assert check_padding(*loaded()) < 1e-5


def test_a_model_that_ignores_its_mask_may_not(loaded):
    engine, examples = loaded(uses_mask=False)
    with pytest.raises(ConfigRejected, match="ignores its mask"):
        check_padding(engine, examples)


def test_a_model_without_a_batch_may_not_be_padded():
    class Fixed:
        signature = Signature((TensorSpec("x", "FP32", (1, 2)),), ())

    with pytest.raises(ConfigRejected, match='first dimension is "batch"'):
        check_padding(Fixed(), [])


def test_an_engine_agrees_with_itself_alone_and_padded(loaded):
    engine, examples = loaded()
    assert agreement(engine, engine, examples) == pytest.approx((1, 1))
    assert padded_agreement(engine, engine, examples) == pytest.approx((1, 1))


def test_disagreement_is_told_by_its_mean_and_its_worst(loaded):
    engine, examples = loaded()
    mean, least = agreement(engine, Shifted(engine, 1.0), examples)
    assert least < mean < 0.999


def test_latency_is_measured_for_each_engine(loaded):
    engine, examples = loaded()
    found = latencies([engine, engine], examples, 3, LINE).milliseconds()
    assert len(found) == 2
    assert all(0 < milliseconds < 1000 for milliseconds in found)


def test_rows_per_second_follow_from_latency():
    assert Measured(size_bytes=1, latency_ms=4.0, accuracy=1.0).rows_per_s == 250


def test_the_table_of_latencies_covers_batches_and_shapes(loaded):
    engine, examples = loaded()
    found = batch_latencies([engine, engine], examples, 1, 3, LINE)
    assert [(entry.batch, entry.sizes["length"]) for entry in found] == [
        (batch, length) for length in (2, 9, 30) for batch in (1, 2, 4, 8)
    ]
    assert all(0 < entry.low_ms <= entry.median_ms <= entry.high_ms for entry in found)
    assert all(entry.original_ms > 0 for entry in found)


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ([[10, 10, 10, 10, 10]], 0),
        ([[10, 10, 10, 10, 10], [9.9, 9.9, 9.9, 9.9, 9.9]], 0),
        ([[10, 10, 10, 10, 10], [9, 9, 9, 9, 9], [8, 8, 8, 8, 8]], 2),
        ([[10, 10, 10, 10, 10], [8, 8, 8, 11, 11]], 0),
        ([[8, 8, 8, 8, 8], [9, 9, 9, 9, 9]], 0),
    ],
)
def test_another_way_to_load_must_be_clearly_faster(seconds, chosen):
    assert Turns(np.array(seconds)[:, :, None]).fastest() == chosen


def test_a_fusion_is_a_question_only_for_graphs_that_it_touches():
    assert list(toggles_for(["MatMul", "LayerNormalization"])) == list(TOGGLES)
    assert list(toggles_for(["Conv", "Relu"])) == ["all fusions"]


def test_evaluate_gets_checked_predictions(loaded):
    engine, examples = loaded()

    def judged(evaluate):
        given = recipe_of(model=str, example_inputs=list, evaluate=evaluate)
        return accuracy(engine, given, LINE)

    assert judged(lambda predict: predict(examples[0])["vector"].shape[1]) == 64
    wrong = {**examples[0], "ids": np.full_like(examples[0]["ids"], 5000)}
    with pytest.raises(TensorRejected, match="values from"):
        judged(lambda predict: float(predict(wrong)["vector"][0, 0]))


@pytest.mark.parametrize(
    ("evaluate", "told"),
    [
        ("return 1 / 0", r"recipe\.py line \d+: evaluate\(\) raised ZeroDivisionError"),
        ("return float('nan')", r"recipe\.py line \d+: evaluate\(\) returned nan"),
        ("return 'good'", r"recipe\.py line \d+: evaluate\(\) returned str"),
    ],
)
def test_an_evaluate_that_gives_no_number_is_told_with_its_line(make_recipe, engine_of, evaluate, told):
    recipe = make_recipe(evaluate)
    with pytest.raises(ConfigRejected, match=told):
        accuracy(engine_of(recipe), recipe, LINE)


def test_a_toggle_changes_session_and_digest_but_no_file(make_recipe, artifact_of):
    artifact = artifact_of(make_recipe())
    default, toggled = (with_session(artifact, session) for session in TOGGLES.values())
    assert default.digest == artifact.digest != toggled.digest
    assert toggled.manifest.session.disabled_optimizers == ("SkipLayerNormFusion",)
    load(toggled, threads=1).warm_up()


def test_warm_up_covers_short_long_and_batched(make_recipe, prepare):
    made = prepare(make_recipe())
    assert warm_up_sizes(made.signature, made.examples) == (
        {"batch": 1, "length": 2},
        {"batch": 1, "length": 9},
        {"batch": 1, "length": 30},
        {"batch": 8, "length": 30},
    )
    assert len(warm_up_sizes(made.signature, made.examples[:1])) == 2
