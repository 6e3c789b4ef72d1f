import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from headrace.errors import ConfigRejected
from optimize.export import export_model, output_names, predictor
from optimize.graphs import signature_of
from tests import digits

ROOT = Path(__file__).resolve().parents[2]
BATCH = {"x": {0: "batch"}}


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


class Texts(nn.Module):
    """The mean over embedded words and a score of each word: two outputs, two variable axes."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(50, 8)
        self.score = nn.Linear(8, 3)

    def forward(self, ids, mask):
        words = self.table(ids) * mask[..., None]
        return words.sum(1) / mask.sum(1, keepdim=True), self.score(words)


def _of(forward):
    """A module with this forward()."""
    return type("Small", (nn.Module,), {"forward": forward})()


def _image(rows=1):
    return {"x": np.random.default_rng(rows).standard_normal((rows, 1, 8, 8)).astype(np.float32)}


def _text(length):
    ids = np.arange(length).reshape(1, length)
    return {"ids": ids, "mask": np.ones_like(ids)}


def test_the_graph_answers_as_the_module_does_for_any_batch(tmp_path):
    network = digits.trained()
    path = export_model(network, [_image()], BATCH, ["logits"], tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(path)
    many = _image(7)
    wanted = predictor(network, ["x"], ["logits"])(many)["logits"]
    np.testing.assert_allclose(session.run(["logits"], many)[0], wanted, atol=1e-4)
    (spec,) = signature_of(onnx.load(path).graph).outputs
    assert (spec.name, spec.shape) == ("logits", ("batch", 10))


def test_examples_of_several_lengths_share_one_graph(tmp_path):
    axes = {name: {0: "batch", 1: "length"} for name in ("ids", "mask")}
    path = export_model(Texts(), [_text(n) for n in (1, 4, 9)], axes, ["mean", "scores"], tmp_path / "m.onnx")
    signature = signature_of(onnx.load(path).graph)
    assert [spec.shape for spec in signature.inputs] == [("batch", "length")] * 2
    assert [spec.shape for spec in signature.outputs] == [("batch", 8), ("batch", "length", 3)]


def test_an_output_may_be_called_as_an_inner_value_is(tmp_path):
    axes = {name: {0: "batch", 1: "length"} for name in ("ids", "mask")}
    path = export_model(Texts(), [_text(3)], axes, ["embedding", "mul"], tmp_path / "m.onnx")
    assert [value.name for value in onnx.load(path).graph.output] == ["embedding", "mul"]


def test_an_output_that_is_an_input_keeps_both_names(tmp_path):
    path = export_model(_of(lambda self, x: (x.relu(), x)), [_image()], BATCH, [], tmp_path / "m.onnx")
    graph = onnx.load(path).graph
    assert [value.name for value in graph.input] == ["x"]
    assert [value.name for value in graph.output] == ["output_0", "output_1"]


def test_the_same_weights_give_the_same_bytes_in_any_process(tmp_path):
    script = (
        "import sys; from pathlib import Path; from tests.digits import Network; import numpy as np\n"
        "from optimize.export import export_model\n"
        "x = {'x': np.ones((1, 1, 8, 8), np.float32)}\n"
        "export_model(Network(8), [x], {'x': {0: 'batch'}}, [], Path(sys.argv[1]))"
    )
    subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "elsewhere")],
        check=True,
        env={"PYTHONHASHSEED": "1", "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
    )
    first = export_model(digits.Network(8), [_image()], BATCH, [], tmp_path / "here").read_bytes()
    assert first == (tmp_path / "elsewhere").read_bytes()
    for told in (str(ROOT), "digits.py", "pkg.torch"):
        assert told.encode() not in first


def test_exporting_says_nothing(tmp_path, capfd, recwarn):
    export_model(_of(lambda self, x: x * 2), [_image()], BATCH, [], tmp_path / "m.onnx")
    assert capfd.readouterr() == ("", "")
    assert not list(recwarn)


def _branches(self, x):
    return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    ("forward", "told"),
    [
        (_branches, "branches on values of a tensor"),
        (lambda self, x: torch.special.bessel_j0(x), r"operator prims\.bessel_j0 has no ONNX form"),
        (lambda self, x: x.unbind(0)[0], "fixes axis 0 of input 'x' to 2"),
        (lambda self, x: nn.functional.dropout(x, 0.5), "the exported graph differs: 'output' of example 0"),
        (lambda self, x: x / 0 - x / 0, "the exported graph differs: .* nan"),
    ],
)
def test_a_model_that_does_not_export_says_why_and_the_way_out(tmp_path, forward, told):
    target = tmp_path / "model.onnx"
    with pytest.raises(ConfigRejected, match=told) as refused:
        export_model(_of(forward), [_image()], BATCH, [], target)
    assert "return the path of an ONNX file from model()" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_an_axis_that_varies_without_being_named_is_told(tmp_path):
    axes = {name: {0: "batch"} for name in ("ids", "mask")}
    with pytest.raises(ConfigRejected, match=r"example 1.*name every axis that varies in dynamic_shapes"):
        export_model(Texts(), [_text(3), _text(5)], axes, [], tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("axes", "told"), [({"y": {0: "batch"}}, "no input 'y'"), ({"x": {4: "depth"}}, "has no axis 4")]
)
def test_dynamic_shapes_must_fit_the_inputs(tmp_path, axes, told):
    with pytest.raises(ConfigRejected, match=told):
        export_model(_of(lambda self, x: x), [_image()], axes, [], tmp_path / "m.onnx")


def test_outputs_are_named_by_their_number_unless_given():
    one, two = _of(lambda self, x: x), _of(lambda self, x: {"b": x, "none": None, "a": [x]})
    assert output_names(one, _image()) == ("output",)
    assert output_names(two, _image()) == ("output_0", "output_1")
    assert output_names(two, _image(), ["first", "second"]) == ("first", "second")


@pytest.mark.parametrize("names", [["only"], ["same", "same"], ["x", "y"], ["a", "b", "c"]])
def test_output_names_must_fit(names):
    with pytest.raises(ConfigRejected, match="outputs of the recipe"):
        output_names(_of(lambda self, x: (x, x)), _image(), names)


def test_a_forward_that_raises_or_gives_no_tensor_is_told():
    with pytest.raises(ConfigRejected, match=r"TypeError.*name forward\(\)'s arguments: \['y'\]"):
        output_names(_of(lambda self, x: x), {"y": np.ones((1, 2))})
    with pytest.raises(ConfigRejected, match="gave int; it must give a tensor"):
        output_names(_of(lambda self, x: 3), _image())


def test_predictions_are_made_in_eval_mode():
    network = nn.Sequential(nn.Dropout(0.5))
    network.forward = lambda x: network[0](x)
    predict = predictor(network, ["x"], ["y"])
    network.train()  # as after a recipe's train()
    assert predict(_image())["y"].all()
    with pytest.raises(ConfigRejected, match="gives 1 tensors"):
        predictor(network, ["x"], ["y", "z"])(_image())
