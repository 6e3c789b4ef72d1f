"""What is remembered of an answer, and how the truth is held against it."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.config import FeedbackConfig
from headrace.errors import CallerError, Conflict
from headrace.requests import Truth, Verdict
from headrace.tensors import DTYPES, Array, Dim, TensorSpec
from rollout.feedback import Answers, gist_of

SCORES = TensorSpec("y", "FP32", ("batch", 3))
THREE = np.array([[0.1, 0.7, 0.2], [0.9, 0.0, 0.1], [0.3, 0.3, 0.4]], np.float32)  # 1, 0, 2


def top1(keep: int = 10_000, keep_s: float = 60.0) -> FeedbackConfig:
    return FeedbackConfig(output="y", keep=keep, keep_s=keep_s)


def answered(
    array: Array, config: FeedbackConfig | None = None, shape: tuple[Dim, ...] = ("batch", 3)
) -> Answers:
    dtype = next(name for name, known in DTYPES.items() if known == array.dtype)
    answers = Answers(config or top1(), TensorSpec("y", dtype, shape))
    answers.note("", "id", "2", {"y": array}, 100.0)
    return answers


def right(answers: Answers, label: object) -> float:
    verdict = answers.judge("", Truth("id", label), 101.0)
    assert verdict is not None
    assert verdict.version == "2"
    return verdict.right


def test_of_scores_only_the_classes_are_kept() -> None:
    gist = gist_of(top1(), SCORES, THREE)
    assert gist.values is not None
    assert (gist.values.tolist(), gist.values.dtype, gist.classes) == ([1, 0, 2], np.int32, 3)
    assert gist.values.base is None


@pytest.mark.parametrize("label", [1, [1], [[1]]])
def test_an_answer_of_one_row_is_judged_by_one_label(label: object) -> None:
    assert right(answered(THREE[:1]), label) == 1.0
    assert right(answered(THREE[1:2]), label) == 0.0


def test_parts_of_an_answer_count() -> None:
    assert right(answered(THREE), [1, 0, 1]) == pytest.approx(2 / 3)


def test_labels_of_tokens_are_a_list_for_each_row() -> None:
    assert right(answered(THREE[None], shape=("batch", "length", 3)), [1, 0, 0]) == pytest.approx(2 / 3)
    assert right(answered(THREE[None], shape=("batch", "length", 3)), [[1, 0, 2]]) == 1.0


@pytest.mark.parametrize("dtype", ["FP16", "BF16", "FP64"])
def test_classes_are_found_in_any_precision(dtype: str) -> None:
    assert right(answered(THREE.astype(DTYPES[dtype])), [1, 0, 2]) == 1.0


def test_text_is_right_when_it_is_equal() -> None:
    config = FeedbackConfig(output="y", rule="equal")
    for text in (b"sp\xc3\xa4m", "späm"):
        answers = answered(np.array([[text]], object), config, ("batch", 1))
        assert right(answers, "späm") == 1.0
    assert right(answered(np.array([[b"ham"]], object), config, ("batch", 1)), "spam") == 0.0


def test_numbers_are_right_when_they_are_close() -> None:
    config = FeedbackConfig(output="y", rule="close", tolerance=0.1)
    array = np.array([10.0, 20.0], np.float32)
    assert right(answered(array, config, ("batch",)), [10.5, 30]) == 0.5


def test_booleans_and_integers_are_right_when_they_are_equal() -> None:
    config = FeedbackConfig(output="y", rule="equal")
    assert right(answered(np.array([True, False]), config, ("batch",)), [True, True]) == 0.5
    assert right(answered(np.array([7]), config, ("batch",)), 7) == 1.0


def test_the_caller_may_say_how_right_it_was() -> None:
    assert answered(THREE).judge("", Truth("id", right=0.25), 101.0) == Verdict("2", 0.25)


@pytest.mark.parametrize(
    ("label", "told"),
    [
        (3, "shape"),
        ([1, 0], "to have \\[3\\]"),
        ([1, 0, 3], "classes from 0 to 2"),
        ([1, 0, -1], "classes from 0 to 2"),
        (["a", "b", "c"], "integers, the classes"),
        ([1.0, 0.0, 2.0], "integers, the classes"),
        ([True, False, True], "integers, the classes"),
        ([[1], [2, 3], [4]], "different lengths"),
        ({"class": 1}, "integers, the classes"),
        ([10**30, 0, 0], "integers, the classes"),
    ],
)
def test_a_label_that_does_not_fit_is_refused_and_may_be_told_again(label: object, told: str) -> None:
    answers = answered(THREE)
    with pytest.raises(CallerError, match=told):
        answers.judge("", Truth("id", label), 101.0)
    assert right(answers, [1, 0, 2]) == 1.0


def test_each_answer_is_judged_once() -> None:
    answers = answered(THREE)
    right(answers, [1, 0, 2])
    with pytest.raises(Conflict, match="counts once"):
        answers.judge("", Truth("id", [1, 0, 2]), 102.0)


def test_what_was_not_answered_here_is_unknown() -> None:
    answers = answered(THREE)
    assert answers.judge("", Truth("other", 1), 101.0) is None
    assert answers.judge("somebody", Truth("id", [1, 0, 2]), 101.0) is None


def test_answers_are_forgotten_after_their_time_and_when_there_are_too_many() -> None:
    answers = Answers(top1(keep=2, keep_s=10.0), SCORES)
    for number in range(3):
        answers.note("", str(number), "1", {"y": THREE[:1]}, 100.0 + number)
    assert len(answers) == 2
    assert answers.judge("", Truth("0", 1), 102.0) is None
    assert answers.judge("", Truth("2", 1), 112.0) == Verdict("1", 1.0)
    assert answers.judge("", Truth("1", 1), 112.0) is None
    assert len(answers) == 1


def test_an_id_that_comes_again_is_that_of_the_later_request() -> None:
    answers = answered(THREE[:1])
    answers.note("", "id", "3", {"y": THREE[1:2]}, 101.0)
    assert answers.judge("", Truth("id", 0), 102.0) == Verdict("3", 1.0)


def test_what_can_never_be_asked_for_is_not_remembered() -> None:
    answers = Answers(top1(), SCORES)
    answers.note("", "a" * 257, "1", {"y": THREE}, 100.0)
    answers.note("", "", "1", {"y": THREE}, 100.0)
    answers.note("", "id", "1", {"z": THREE}, 100.0)
    assert len(answers) == 0


def test_of_a_large_answer_only_its_being_right_can_be_told() -> None:
    config = FeedbackConfig(output="y", rule="equal")
    large = np.zeros((1, 5000), np.int8)
    for array in (large, np.array([[b"a" * 5000]], object)):
        answers = answered(array, config, ("batch", 3))
        with pytest.raises(CallerError, match="too large to be kept; tell 'right'"):
            answers.judge("", Truth("id", 1), 101.0)
        assert answers.judge("", Truth("id", right=1.0), 101.0) == Verdict("2", 1.0)
