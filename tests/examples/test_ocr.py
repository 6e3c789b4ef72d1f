"""The text recognizer with its real weights, over the sentences that it is judged on."""

import numpy as np
import onnx
import onnxruntime
import pytest

from examples.ocr import data, recipe


def _session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def original():
    return _session(data.graph())


def test_lines_are_read_as_they_were_drawn(original, monkeypatch):
    lines = data.test()[:24]
    monkeypatch.setattr(data, "test", lambda: lines)
    calls = []

    def predict(inputs):
        calls.append(recipe.signature().check(inputs))
        return {recipe.OUTPUT: original.run(None, dict(inputs))[0]}

    assert recipe.evaluate(predict) >= 22 / 24
    assert [sizes["batch"] for sizes in calls] == [8, 8, 8]
    assert all(sizes["width"] % data.WIDTH_STEP == 0 for sizes in calls)


def test_the_raised_opset_answers_the_same(original):
    path = recipe.model()
    assert onnx.load(path, load_external_data=False).opset_import[0].version >= 13
    raised, inputs = _session(path), dict(recipe.example_inputs()[0])
    assert np.array_equal(raised.run(None, inputs)[0], original.run(None, inputs)[0])


def test_no_sentence_is_used_twice():
    splits = [[text for text, _ in split()] for split in (data.test, data.calibration, data.examples)]
    assert [len(split) for split in splits] == [data.TEST, data.CALIBRATION, data.EXAMPLES]
    texts = [text for split in splits for text in split]
    assert len(texts) == len(set(texts))
    assert all(text.isascii() and data.SHORTEST <= len(text) <= data.LONGEST for text in texts)


def test_drawing_repeats_and_depends_on_the_number():
    first, again, other = (data.draw("Hello there!", seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert first.shape != other.shape or not np.array_equal(first, other)


def test_images_are_scaled_and_padded_with_zeros_on_the_right():
    image = data.normalized(np.full((24, 100, 3), 255, np.uint8))
    assert image.shape == (3, data.HEIGHT, 200)
    assert image.dtype == np.float32
    batch = data.stack([image, data.normalized(np.zeros((48, 330, 3), np.uint8))])
    assert batch.shape == (2, 3, data.HEIGHT, 352)
    assert (batch[0, :, :, :200] == 1).all()
    assert not batch[0, :, :, 200:].any()
    assert (batch[1, :, :, :330] == -1).all()
    assert data.stack([image]).shape[3] == data.LEAST_WIDTH


def test_repeated_classes_count_once_unless_a_blank_is_between():
    known = data.characters()
    letters = {letter: known.index(letter) for letter in "abo "}
    steps = [0, letters["b"], letters["b"], 0, letters["o"], 0, letters["o"], letters[" "], letters["a"], 0]
    assert data.read(np.eye(len(known))[None, steps]) == ["boo a"]


def test_the_classes_are_those_of_the_graph(original):
    assert original.get_outputs()[0].shape[2] == len(data.characters())
