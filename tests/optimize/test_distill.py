import math

import numpy as np
import pytest
import torch
from torch import nn

from headrace.errors import ConfigRejected
from optimize.checkpoint import Checkpoint
from optimize.distill import distill, soft_loss
from optimize.export import predictor
from optimize.progress import Line
from tests import digits

NAMES = (["x"], ["logits"])
THREE_CLASSES = digits.Network(8)
THREE_CLASSES.head = nn.Linear(8, 3)
FEW = 300  # labels


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


class Killed(BaseException):
    """As a kill would, it passes every `except Exception`."""


def _labelled(epoch):
    x, labels = digits.images()
    for start in range(0, FEW, 50):
        yield {"x": x[start : start + 50]}, labels[start : start + 50]


def _unlabelled(epoch):
    x, _ = digits.images()
    order = np.random.default_rng(epoch).permutation(digits.TRAIN)
    for start in range(0, digits.TRAIN, 100):
        yield {"x": x[order[start : start + 100]]}


def _quick(student, labelled=_labelled, unlabelled=_unlabelled, validate=digits.accuracy, **options):
    options = {"epochs": 2, "tune_steps": 2, **options}
    return distill(digits.trained(), student, labelled, unlabelled, validate, *NAMES, **options)


def test_a_student_learns_from_few_labels_and_many_images():
    student = digits.Network(16, seed=1)
    facts = _quick(student, epochs=12, tune_steps=15, lr=1e-2)
    teacher = digits.accuracy(predictor(digits.trained(), *NAMES))
    assert digits.accuracy(predictor(student, *NAMES)) == facts["validation"] > 0.9 * teacher
    assert facts["teacher_validation"] == teacher
    assert facts["agreement"] > 0.85
    assert facts["parameters"] < facts["teacher_parameters"] / 3
    best = max(facts["grid"], key=lambda tried: tried["validation"])
    assert (facts["temperature"], facts["alpha"]) == (best["temperature"], best["alpha"])
    assert [(tried["temperature"], tried["alpha"]) for tried in facts["grid"]] == [
        *[(2.0, 0.5), (2.0, 0.9), (4.0, 0.5), (4.0, 0.9)]
    ]


@pytest.mark.parametrize(
    ("labelled", "unlabelled", "tried"), [(_labelled, None, 4), (None, _unlabelled, 2), (None, None, 0)]
)
def test_one_kind_of_data_is_enough(labelled, unlabelled, tried):
    if not tried:
        with pytest.raises(ConfigRejected, match=r"needs labelled\(epoch\) or unlabelled\(epoch\)"):
            _quick(digits.Network(8), labelled, unlabelled)
        return
    facts = _quick(digits.Network(8), labelled, unlabelled)
    assert len(facts["grid"]) == tried  # without labels alpha has nothing to weigh


def test_a_single_setting_is_not_tuned():
    line = Line(None, "")
    facts = _quick(digits.Network(8), temperatures=(3.0,), alphas=(0.7,), line=line)
    assert (facts["temperature"], facts["alpha"], facts["grid"]) == (3.0, 0.7, [])
    assert line.steps == 2


def test_the_soft_loss_is_the_scaled_divergence():
    wanted, found = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    p = 1 / (1 + math.exp(-1))  # of the first class, at temperature 2
    divergence = p * math.log(p / 0.5) + (1 - p) * math.log((1 - p) / 0.5)
    assert float(soft_loss(found, wanted, 2.0)) == pytest.approx(4 * divergence)
    assert float(soft_loss(wanted, wanted, 2.0)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("killed_at", [2, 4, 6])  # scores: four of the grid, then student and teacher
def test_a_killed_run_ends_at_the_same_weights(tmp_path, killed_at):
    calls = []

    def validate(predict):
        calls.append(1)
        if len(calls) == killed_at:
            raise Killed
        return digits.accuracy(predict)

    whole, killed, resumed = (digits.Network(8, seed=1) for _ in range(3))
    facts = _quick(whole)
    with pytest.raises(Killed):
        _quick(killed, validate=validate, checkpoint=Checkpoint(tmp_path))
    assert _quick(resumed, validate=validate, checkpoint=Checkpoint(tmp_path)) == facts
    assert len(calls) == 7 + (killed_at == 6)  # only the scores at the end are taken again
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_an_epoch_cut_off_is_begun_again(tmp_path):
    epochs = []

    def unlabelled(epoch):
        epochs.append(epoch)
        if len(epochs) == 3:
            raise Killed
        yield from _unlabelled(epoch)

    whole, resumed = (digits.Network(8, seed=1) for _ in range(2))
    options = {"temperatures": (2.0,), "alphas": (0.5,), "epochs": 4}
    _quick(whole, **options)
    with pytest.raises(Killed):
        _quick(resumed, unlabelled=unlabelled, checkpoint=Checkpoint(tmp_path), **options)
    _quick(resumed, unlabelled=unlabelled, checkpoint=Checkpoint(tmp_path), **options)
    assert epochs == [0, 1, 2, 2, 3]
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"student": THREE_CLASSES}, r"first output of student\(\) has shape"),
        ({"student": nn.Linear(8, 8)}, r"forward\(\) of student\(\) raised TypeError: .*'x'"),
        ({"labelled": lambda epoch: [(next(_unlabelled(0)), np.zeros((100, 10)))]}, "one class number"),
        ({"labelled": None, "unlabelled": lambda epoch: []}, "gave no batch"),
        ({"validate": lambda predict: float("nan")}, r"validate\(\) of the recipe returned nan"),
    ],
)
def test_what_does_not_fit_is_told(options, told):
    with pytest.raises(ConfigRejected, match=told):
        _quick(**{"student": digits.Network(8), **options})
