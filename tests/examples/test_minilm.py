"""The example as a newcomer runs it: real weights, real texts, the whole pipeline once."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from engines.artifact import Repository
from engines.load import load
from examples.minilm import data, graph, packages
from headrace.errors import ConfigRejected, TensorRejected
from optimize.goals import Goals
from optimize.graphs import signature_of
from optimize.pipeline import optimize
from optimize.recipe import load_recipe
from optimize.steps import QuantizeDynamic

RECIPE = Path(graph.__file__).with_name("recipe.py")
GOALS = Goals(max_drop=0.01, min_speedup=1.5, max_size=0.30)


@pytest.fixture(scope="session")
def recipe():
    return load_recipe(RECIPE)


@pytest.fixture(scope="session")
def published(recipe, tmp_path_factory):
    """The report of one whole run, and the repository it wrote."""
    out = tmp_path_factory.mktemp("repository") / "minilm"
    report = optimize(recipe, out, GOALS, chains=((QuantizeDynamic(),),))
    return report, Repository(out.parent)


@pytest.fixture(scope="session")
def embed(published):
    engine = load(published[1].open("minilm", "1"), threads=1)
    return lambda text: engine.run(data.tokenize(text))["embedding"][0]


def test_int8_reaches_its_goals_on_labelled_texts(published):
    report, repository = published
    assert repository.versions("minilm") == ["1", "2"]
    assert report.misses == ()
    assert report.before.measured.accuracy > 0.84
    assert report.after.measured.agreement_mean > 0.98
    assert repository.open("minilm", "2").manifest.figures["drop"] <= 0.01


def test_like_sentences_are_near_and_others_far(embed):
    # The model card of sentence-transformers gives 0.7553 and -0.1050 for these.
    eating = embed("A man is eating food.")
    assert eating @ embed("A man is eating a piece of bread.") == pytest.approx(0.7553, abs=1e-3)
    assert eating @ embed("The girl is carrying a baby.") == pytest.approx(-0.1050, abs=1e-3)


def test_embeddings_have_length_one(embed):
    assert np.linalg.norm(embed("any text at all")) == pytest.approx(1, abs=1e-6)


def test_a_row_without_tokens_is_answered_with_zeros(published):
    engine = load(published[1].open("minilm", "1"), threads=1)
    empty = np.zeros((1, 4), np.int64)
    assert not engine.run({"input_ids": empty, "attention_mask": empty})["embedding"].any()


def test_the_signature_is_that_of_the_graph(recipe):
    found = signature_of(onnx.load(recipe.call("model")).graph)
    assert [(spec.name, spec.dtype, spec.shape) for spec in (*found.inputs, *found.outputs)] == [
        (spec.name, spec.dtype, spec.shape) for spec in (*graph.SIGNATURE.inputs, *graph.SIGNATURE.outputs)
    ]


def test_ids_outside_the_vocabulary_are_the_callers_mistake():
    inputs = {"input_ids": np.full((1, 2), graph.VOCABULARY), "attention_mask": np.ones((1, 2), np.int64)}
    with pytest.raises(TensorRejected, match="30521"):
        graph.SIGNATURE.check(inputs)


def test_long_texts_are_cut_and_short_ones_not_padded():
    assert data.tokenize("word " * 1000)["input_ids"].shape == (1, graph.MAX_LENGTH)
    assert data.tokenize("word")["input_ids"].tolist() == [[101, 2773, 102]]


def test_no_text_is_in_both_halves_of_a_split():
    for labelled in (data.sms(), data.movie()):
        texts = [text for text, _ in labelled]
        assert len(texts) == len(set(texts)) >= 2000
        assert 0.1 < np.mean([label for _, label in labelled]) < 0.6


def test_chat_messages_come_in_time_order_and_repeat():
    messages = data.chat(5000)
    assert messages[:2] == data.chat(2)
    assert len(messages) == 5000 > len(set(messages))


def test_a_missing_package_says_what_to_install():
    with pytest.raises(ConfigRejected, match="pip install --no-deps no-such-package"):
        packages.packaged("no_such_package", "file")
