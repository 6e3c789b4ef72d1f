"""Answers of two versions: which rule holds for what, and what counts as another answer."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.config import AnswerConfig
from headrace.errors import ConfigRejected
from headrace.tensors import DTYPES, Array, Dim, Signature, TensorSpec
from rollout.compare import Difference, check_rules, compare

SCORES: tuple[Dim, ...] = ("batch", 4)
ROW = np.array([[0.1, 3.0, -2.0, 1.0]], np.float32)


def compared(
    stable: Array, candidate: Array, shape: tuple[Dim, ...] = SCORES, rule: AnswerConfig | None = None
) -> Difference:
    dtype = next(name for name, known in DTYPES.items() if known == stable.dtype)
    signature = Signature((), (TensorSpec("y", dtype, shape),))
    return compare(signature, {"y": stable}, {"y": candidate}, {"y": rule} if rule else None)


def rule_for(array: Array, shape: tuple[Dim, ...]) -> str:
    return compared(array, array, shape).outputs[0].rule


def unit(rows: int, width: int, seed: int = 0, dtype: str = "FP32") -> Array:
    found = np.random.default_rng(seed).normal(size=(rows, width))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(DTYPES[dtype])


def test_scores_are_compared_by_their_largest() -> None:
    assert rule_for(ROW, SCORES) == "top1"
    assert rule_for(ROW.astype(DTYPES["BF16"]), SCORES) == "top1"


@pytest.mark.parametrize("dtype", ["FP16", "BF16", "FP32", "FP64"])
def test_rows_of_length_one_are_compared_by_their_direction(dtype: str) -> None:
    assert rule_for(unit(3, 384, dtype=dtype), ("batch", 384)) == "cosine"


def test_a_sure_row_of_probabilities_is_no_embedding() -> None:
    assert rule_for(np.array([[0.999, 0.001, 0.0, 0.0]], np.float32), SCORES) == "top1"
    assert rule_for(np.array([[0.0, 1.0, 0.0, 0.0]], np.float32), SCORES) == "top1"


@pytest.mark.parametrize("shape", [("batch",), ("batch", 1), ("batch", "length"), ()])
def test_numbers_that_are_no_rows_of_scores_are_to_be_close(shape: tuple[Dim, ...]) -> None:
    array = np.ones([3 if dim == "batch" else 1 for dim in shape], np.float32)
    assert rule_for(array, shape) == "close"


@pytest.mark.parametrize(
    "array", [np.array([[1, 2]]), np.array([[True, False]]), np.array([[b"a", b"b"]], object)]
)
def test_integers_booleans_and_text_are_to_be_equal(array: Array) -> None:
    assert rule_for(array, ("batch", 2)) == "equal"
    assert not compared(array, array.copy(), ("batch", 2)).is_differing
    found = compared(array, array[:, ::-1], ("batch", 2))
    assert (found.is_differing, found.flipped, found.distance) == (True, 1.0, 1.0)


def test_the_share_of_rows_that_flipped_is_told() -> None:
    stable = np.repeat(ROW, 4, axis=0)
    candidate = stable.copy()
    candidate[2] = ROW[0, ::-1]
    found = compared(stable, candidate)
    assert (found.is_differing, found.flipped) == (True, 0.25)
    assert found.outputs[0].largest == 5.0


def test_other_scores_with_the_same_largest_do_not_differ() -> None:
    found = compared(ROW, ROW * 1.5)
    assert (found.is_differing, found.flipped) == (False, 0.0)
    assert found.outputs[0].relative == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("stable", "is_flip"),
    [([1.0, 1.0, 0.0, 0.0], False), ([1.0, 0.995, 0.0, 0.0], False), ([1.0, 0.98, 0.0, 0.0], True)],
)
def test_a_near_tie_is_no_flip(stable: list[float], is_flip: bool) -> None:
    candidate = np.array([[0.9, 1.1, 0.0, 0.0]], np.float32)
    assert compared(np.array([stable], np.float32), candidate).is_differing is is_flip


def test_embeddings_may_turn_a_little() -> None:
    stable = unit(2, 384)
    for noise, is_differing in ((0.3, False), (0.6, True)):
        candidate = stable + noise * unit(2, 384, seed=1)
        candidate /= np.linalg.norm(candidate, axis=1, keepdims=True)
        found = compared(stable, candidate, ("batch", 384))
        assert found.is_differing is is_differing
        assert found.distance == pytest.approx(1 - 1 / math.hypot(1, noise), abs=0.03)
        assert found.flipped == 0.0


def test_the_worst_row_counts() -> None:
    stable = unit(8, 384)
    candidate = stable.copy()
    candidate[5] = unit(1, 384, seed=7)[0]
    assert compared(stable, candidate, ("batch", 384)).is_differing


def test_other_numbers_may_be_off_by_a_twentieth() -> None:
    stable = np.array([10.0, 20.0], np.float32)
    assert not compared(stable, stable * 1.04, ("batch",)).is_differing
    assert compared(stable, stable * 1.06, ("batch",)).is_differing
    assert compared(np.zeros(2, np.float32), stable, ("batch",)).is_differing
    assert not compared(np.zeros(2, np.float32), np.zeros(2, np.float32), ("batch",)).is_differing


def test_the_user_may_say_otherwise() -> None:
    assert not compared(ROW, ROW * 1.5, rule=AnswerConfig(rule="top1")).is_differing
    assert compared(ROW, ROW * 1.5, rule=AnswerConfig(rule="close")).is_differing
    assert not compared(ROW, ROW * 1.5, rule=AnswerConfig(rule="close", tolerance=0.6)).is_differing
    assert compared(ROW, np.nextafter(ROW, 9), rule=AnswerConfig(rule="equal")).is_differing
    assert not compared(ROW, ROW * -1, rule=AnswerConfig(rule="top1", tolerance=1.0)).is_differing
    assert not compared(ROW, ROW.copy(), rule=AnswerConfig(rule="cosine", tolerance=0.0)).outputs[0].relative


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("rule", ["top1", "cosine", "close", "equal"])
def test_what_is_no_number_in_one_version_alone_differs(odd: float, rule: str) -> None:
    stable, candidate = np.repeat(ROW, 2, axis=0), np.repeat(ROW, 2, axis=0)
    candidate[1, 3] = odd
    given = AnswerConfig.model_validate({"rule": rule})
    for first, second in ((stable, candidate), (candidate, stable)):
        found = compared(first, second, rule=given)
        assert found.is_differing
        assert found.distance > 0
    assert not compared(candidate, candidate.copy(), rule=given).is_differing


def test_masked_scores_are_compared_by_the_others() -> None:
    stable = np.array([[-math.inf, -3.0, -2.0, -9.0]], np.float32)
    flipped = np.array([[-math.inf, -2.0, -3.0, -9.0]], np.float32)
    assert not compared(stable, stable * 1.1).is_differing
    assert compared(stable, flipped).is_differing


def test_other_shapes_dtypes_and_outputs_differ_wholly() -> None:
    for candidate in (ROW[:, :3], ROW.astype(np.float64), np.repeat(ROW, 2, axis=0)):
        found = compared(ROW, candidate)
        assert (found.is_differing, found.flipped, found.distance) == (True, 1.0, 1.0)
        assert "FP32" in found.outputs[0].words or "float32" in found.outputs[0].words
    signature = Signature((), (TensorSpec("y", "FP32", SCORES), TensorSpec("z", "FP32", SCORES)))
    assert compare(signature, {"y": ROW}, {"z": ROW}).flipped == 1.0


def test_the_worst_output_counts() -> None:
    signature = Signature((), (TensorSpec("y", "FP32", SCORES), TensorSpec("n", "INT64", ("batch",))))
    number = np.array([3])
    found = compare(signature, {"y": ROW, "n": number}, {"y": ROW, "n": number + 1})
    assert [output.is_differing for output in found.outputs] == [False, True]
    assert (found.is_differing, found.flipped) == (True, 1.0)


def test_an_answer_without_rows_does_not_differ() -> None:
    assert not compared(ROW[:0], ROW[:0]).is_differing


@given(st.integers(0, 2**32 - 1), st.sampled_from(["top1", "cosine", "close", "equal"]), st.integers(1, 5))
def test_shares_are_between_0_and_1_whatever_is_compared(seed: int, rule: str, rows: int) -> None:
    rng = np.random.default_rng(seed)
    odd = np.array([math.nan, math.inf, -math.inf, 0.0, 1e30, -1e30], np.float32)
    pair = [
        np.where(rng.random((rows, 4)) < 0.2, rng.choice(odd, (rows, 4)), rng.normal(size=(rows, 4))).astype(
            np.float32
        )
        for _ in range(2)
    ]
    found = compared(*pair, rule=AnswerConfig.model_validate({"rule": rule}))
    assert 0 <= found.flipped <= 1
    assert 0 <= found.distance <= 1
    assert not compared(
        pair[0], pair[0].copy(), rule=AnswerConfig.model_validate({"rule": rule})
    ).is_differing


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ({"z": "top1"}, "no output 'z'; the model gives: y, n, t"),
        ({"t": "close"}, "rule 'close' does not hold for 't': it is BYTES; use 'equal'"),
        ({"n": "top1"}, "has no rows of two or more numbers"),
        ({"n": "cosine"}, "has no rows of two or more numbers"),
    ],
)
def test_a_rule_that_cannot_hold_is_refused(rules: dict[str, str], told: str) -> None:
    specs = (
        TensorSpec("y", "FP32", SCORES),
        TensorSpec("n", "INT64", ("batch",)),
        TensorSpec("t", "BYTES", SCORES),
    )
    given = {name: AnswerConfig.model_validate({"rule": rule}) for name, rule in rules.items()}
    with pytest.raises(ConfigRejected, match=told):
        check_rules("m", Signature((), specs), given, "answers")


def test_a_rule_that_can_hold_is_taken() -> None:
    check_rules(
        "m", Signature((), (TensorSpec("y", "FP32", SCORES),)), {"y": AnswerConfig(rule="top1")}, "answers"
    )


def test_real_int8_of_a_classifier_is_no_drift_and_flipped_classes_are(tmp_path: Path) -> None:
    import onnx
    import onnxruntime
    import torch

    from optimize import quantize
    from optimize.calibrate import calibrate
    from optimize.progress import Line
    from optimize.ranges import determine
    from tests.digits import images, trained

    x, _ = images()
    plain, folded, int8 = (tmp_path / name for name in ("plain.onnx", "folded.onnx", "int8.onnx"))
    names = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": {"x": {0: "n"}, "y": {0: "n"}}}
    torch.onnx.export(trained(), (torch.from_numpy(x[:2]),), plain, dynamo=False, **names)
    quantize.preprocess(plain, folded)
    rows = [{"x": x[start : start + 50]} for start in range(0, 500, 50)]
    kinds = quantize.op_types(onnx.load(folded).graph)
    seen = calibrate(folded, lambda skip: rows[skip:], kinds, tmp_path / "seen.npz", Line(None, ""))
    quantize.convert(folded, int8, determine(seen, "minmax", False), quantize.Conversion())
    stable, candidate = (
        onnxruntime.InferenceSession(str(path)).run(None, {"x": x})[0] for path in (plain, int8)
    )
    assert not np.array_equal(stable, candidate)
    shape: tuple[Dim, ...] = ("batch", 10)
    alike = [compared(stable[n : n + 1], candidate[n : n + 1], shape) for n in range(len(x))]
    assert np.mean([found.is_differing for found in alike]) < 0.002
    every = 33  # of which one is answered wrongly: 3%
    wrong = candidate.copy()
    wrong[::every] = np.roll(wrong[::every], 1, axis=1)
    found = [compared(stable[n : n + 1], wrong[n : n + 1], shape) for n in range(len(x))]
    assert np.mean([entry.is_differing for entry in found]) == pytest.approx(1 / every, abs=0.003)
    assert np.mean([entry.flipped for entry in found]) == pytest.approx(1 / every, abs=0.003)


def test_real_int8_of_an_encoder_is_no_drift(tmp_path: Path) -> None:
    import onnxruntime

    from examples.minilm import data, graph
    from examples.minilm.recipe import embed
    from optimize import quantize

    plain = graph.write(tmp_path / "plain.onnx")
    folded, int8 = tmp_path / "folded.onnx", tmp_path / "int8.onnx"
    quantize.preprocess(plain, folded)
    quantize.quantize_dynamic(folded, int8)
    texts = data.chat(256)

    def answers(path: Path) -> Array:
        session = onnxruntime.InferenceSession(str(path))
        predict = lambda inputs: {"embedding": session.run(None, dict(inputs))[0]}  # noqa: E731
        return embed(predict, texts).astype(np.float32)

    stable, candidate = answers(plain), answers(int8)
    found = [
        compare(graph.SIGNATURE, {"embedding": a}, {"embedding": b}) for a, b in _pairs(stable, candidate)
    ]
    assert not any(entry.is_differing for entry in found)
    others = [
        compare(graph.SIGNATURE, {"embedding": a}, {"embedding": b}) for a, b in _pairs(stable, stable[::-1])
    ]
    assert np.mean([entry.is_differing for entry in others]) > 0.95


def _pairs(first: Array, second: Array) -> list[tuple[Array, Array]]:
    return [(first[n : n + 1], second[n : n + 1]) for n in range(len(first))]
