import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from headrace.errors import ConfigRejected
from optimize.modules import history_of, load_module, save_module
from optimize.structured import prune_channels
from tests import digits
from tests.networks import Encoder

ROOT = Path(__file__).resolve().parents[2]
TEXT = {"ids": np.zeros((1, 6), np.int64)}
IMAGE = {"x": np.zeros((1, 1, 8, 8), np.float32)}


def _no_training(model, epochs, after_batch):
    pass


@pytest.fixture
def saved(tmp_path):
    """An encoder that lost half of everything, and its folder."""
    network = Encoder()
    facts = prune_channels(network, TEXT, 0.5, _no_training, heads=network.heads())
    return network, save_module(network, tmp_path / "pruned", "model", facts["history"])


def test_a_pruned_module_answers_the_same_in_another_process(saved, tmp_path):
    network, folder = saved
    script = (
        "import sys, torch; from pathlib import Path; from safetensors.torch import save_file\n"
        "import numpy as np; from tests.networks import Encoder; from optimize.modules import load_module\n"
        "torch.set_num_threads(1)\n"
        "example = {'ids': np.zeros((1, 6), np.int64)}\n"
        "module = load_module(Path(sys.argv[1]), Encoder, None, example)\n"
        "save_file({'found': module(torch.arange(12).view(2, 6)).detach()}, sys.argv[2])"
    )
    out = tmp_path / "found.safetensors"
    subprocess.run(
        [sys.executable, "-c", script, str(folder), str(out)], check=True, env={"PYTHONPATH": str(ROOT)}
    )
    torch.set_num_threads(1)
    assert torch.equal(load_file(out)["found"], network.eval()(torch.arange(12).view(2, 6)))


def test_a_student_is_built_by_student(tmp_path):
    network = digits.Network(8, seed=5)
    save_module(network, tmp_path, "student", [])
    found = load_module(tmp_path, digits.Network, lambda: digits.Network(8), IMAGE)
    assert torch.equal(found.head.weight, network.head.weight)
    assert not found.training
    assert json.loads((tmp_path / "module.json").read_text()) == {"base": "student", "history": []}


def test_pruning_goes_on_from_what_was_pruned(saved, tmp_path):
    _, folder = saved
    network = load_module(folder, Encoder, None, TEXT)
    facts = prune_channels(network, TEXT, 0.5, _no_training, keep=[network.attention])
    again = save_module(network, tmp_path / "again", "model", history_of(folder) + facts["history"])
    found = load_module(again, Encoder, None, TEXT)
    assert found.up.out_features == 16
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), network.parameters(), strict=True))


@pytest.mark.parametrize("model", [lambda: Encoder(width=16), lambda: Encoder(heads=2), digits.Network])
def test_a_recipe_that_builds_another_network_is_told(saved, model):
    example = IMAGE if model is digits.Network else TEXT
    with pytest.raises(ConfigRejected, match=r"model\(\) of the recipe builds another network|cannot follow"):
        load_module(saved[1], model, None, example)


def test_weights_need_a_torch_module(saved, tmp_path):
    with pytest.raises(ConfigRejected, match=r"model\(\) of the recipe must return a torch module"):
        load_module(saved[1], lambda: tmp_path / "model.onnx", None, TEXT)
    save_module(Encoder(), tmp_path / "student", "student", [])
    with pytest.raises(ConfigRejected, match=r"student\(\) of the recipe must return a torch module"):
        load_module(tmp_path / "student", Encoder, None, TEXT)
