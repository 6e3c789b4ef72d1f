"""The Fashion-MNIST example over files of its own format: real ones are not always at hand."""

import gzip

import numpy as np
import pytest
import torch

from examples.fashion import data, recipe
from examples.fashion.network import Network
from headrace.errors import ConfigRejected
from optimize.export import output_names, predictor

VALIDATION = 200
ROWS = {"train": VALIDATION + 300, "t10k": 260}


def _idx(path, array):
    header = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes()
    path.write_bytes(gzip.compress(header + array.tobytes(), 1))


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The four files with few rows; class k is a bright bar at row 2 k."""
    random = np.random.default_rng(0)
    for name, rows in ROWS.items():
        labels = random.integers(0, 10, rows).astype(np.uint8)
        images = random.integers(0, 100, (rows, 28, 28)).astype(np.uint8)
        images[np.arange(rows), 2 * labels] = 255
        _idx(tmp_path / f"{name}-images-idx3-ubyte.gz", images)
        _idx(tmp_path / f"{name}-labels-idx1-ubyte.gz", labels)
    monkeypatch.setattr(data, "VALIDATION", VALIDATION)
    monkeypatch.setenv("HEADRACE_FASHION_MNIST", str(tmp_path))
    monkeypatch.setenv("HEADRACE_FASHION_WEIGHTS", str(tmp_path / "kept" / "teacher.safetensors"))
    data._split.cache_clear()
    torch.set_num_threads(1)
    yield tmp_path
    data._split.cache_clear()


@pytest.fixture
def small(files, monkeypatch):
    """The recipe with few channels and labels, so that training takes a second."""
    for name, value in {"WIDTH": 4, "STUDENT_WIDTH": 2, "EPOCHS": 8, "LABELS": 100, "BATCH": 50}.items():
        monkeypatch.setattr(recipe, name, value)


def test_images_are_scaled_and_split(files):
    images, labels = data.training()
    assert (images.shape, images.dtype) == ((300, 1, 28, 28), np.float32)
    assert (labels.shape, labels.dtype) == ((300,), np.int64)
    assert images.max() == 1
    assert len(data.validation()[0]) == VALIDATION
    assert len(data.test()[0]) == 260
    assert (images[0, 0, 2 * labels[0]] == 1).all()


def test_the_teacher_is_trained_once_and_learns(small, files, capsys):
    first = recipe.model()
    assert "epoch 8 of 8" in capsys.readouterr().err
    second = recipe.model()
    assert capsys.readouterr().err == ""
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    predict = predictor(second, ["image"], recipe.outputs)
    assert recipe.evaluate(predict) > 0.8
    assert recipe.validate(predict) > 0.8


def test_weights_of_another_width_are_trained_anew(small, monkeypatch, capsys):
    recipe.model()
    monkeypatch.setattr(recipe, "WIDTH", 5)
    assert recipe.model().head.in_features == 20 * 49
    assert capsys.readouterr().err.count("epoch 8 of 8") == 2


def test_fine_tuning_calls_after_each_batch(small):
    calls = []
    recipe.train(Network(2), 2, lambda: calls.append(1))
    assert len(calls) == 12


def test_few_labels_and_all_images_are_given_out(small):
    rows = [(inputs["image"], labels) for inputs, labels in recipe.labelled(0)]
    assert sum(len(labels) for _, labels in rows) == 96  # of 100, in batches of 32
    assert sum(len(inputs["image"]) for inputs in recipe.unlabelled(0)) == 300
    again = [inputs["image"][0] for inputs in recipe.unlabelled(0)]
    assert all(np.array_equal(a["image"][0], b) for a, b in zip(recipe.unlabelled(0), again, strict=True))
    assert not np.array_equal(next(recipe.unlabelled(1))["image"][0], again[0])


def test_calibration_and_examples_are_not_test_images(small):
    assert sum(len(inputs["image"]) for inputs in recipe.calibration()) == 300
    assert np.array_equal(recipe.example_inputs()[0]["image"], data.validation()[0][:1])


def test_the_student_takes_and_gives_what_the_teacher_does(small):
    student, (example, *_) = recipe.student(), recipe.example_inputs()
    assert student.features[0].out_channels == 2
    assert output_names(student, example, recipe.outputs) == ("logits",)
    assert set(recipe.dynamic_shapes()) == set(example)


def test_a_missing_data_set_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADRACE_FASHION_MNIST", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigRejected, match=r"HEADRACE_FASHION_MNIST.*apt-get install"):
        data.folder()
    monkeypatch.delenv("HEADRACE_FASHION_MNIST")
    monkeypatch.setattr(data, "FOLDERS", (tmp_path,))
    with pytest.raises(ConfigRejected, match=r"there are no Fashion-MNIST files.*apt-get install"):
        data.folder()


def test_a_broken_file_is_told(tmp_path):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    _idx(path, np.zeros((3, 28, 28), np.uint8))
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.raises(ConfigRejected, match="not a whole gzip file"):
        data.read_idx(path)
    broken = (b"", b"\0\0\x08", b"\0\0\x0d\x01\0\0\0\x01\0", b"\0\0\x08\x01\0\0\0\x05\0", b"\0\0\x08\x03\0\0")
    for content in broken:
        path.write_bytes(gzip.compress(content))
        with pytest.raises(ConfigRejected, match="not an IDX file of bytes"):
            data.read_idx(path)


def test_images_without_labels_are_told(files):
    _idx(files / "t10k-labels-idx1-ubyte.gz", np.zeros(3, np.uint8))
    with pytest.raises(ConfigRejected, match="260 test images have 3 labels"):
        data.test()
