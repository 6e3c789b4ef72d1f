import gzip

import pytest
import torch
from torch import nn

from headrace.errors import ConfigRejected
from optimize.checkpoint import Checkpoint
from optimize.export import predictor
from optimize.progress import Line
from optimize.prune import compressed_bytes, mask_two_of_four, prune_weights, sparsity_facts
from tests import digits


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


class Killed(BaseException):
    """As a kill would, it passes every `except Exception`."""


def _accuracy(network):
    return digits.accuracy(predictor(network, ["x"], ["logits"]))


def _no_training(model, epochs, after_batch):
    after_batch()


def test_four_of_five_weights_go_and_accuracy_stays():
    network = digits.trained()
    before = _accuracy(network)
    facts = prune_weights(network, 0.8, digits.train, rounds=3, epochs=4)
    assert facts["sparsity"] == pytest.approx(0.8, abs=1e-4)
    assert _accuracy(network) >= before - 0.02
    assert not network.training


def test_the_smallest_weights_of_all_layers_go_and_nothing_else():
    network = digits.trained()
    weights = {name: p.detach().clone() for name, p in network.named_parameters()}
    facts = prune_weights(network, 0.5, _no_training, rounds=1)
    limit = max(weights[name][p == 0].abs().max() for name, p in network.named_parameters() if (p == 0).any())
    for name, parameter in network.named_parameters():
        if name.removesuffix(".weight") in ("first", "second", "head") and name.endswith("weight"):
            assert torch.equal(parameter, weights[name] * (weights[name].abs() > limit))
        else:
            assert torch.equal(parameter, weights[name])  # bias and batch norm
    assert set(facts["by_layer"]) == {"first", "second", "head"}
    assert len(set(facts["by_layer"].values())) == 3


def test_sparsity_grows_fast_at_first():
    reached = []

    def train(model, epochs, after_batch):
        reached.append(sparsity_facts(model)["sparsity"])

    prune_weights(digits.trained(), 0.8, train, rounds=4)
    assert reached == pytest.approx([0.4625, 0.7, 0.7875, 0.8], abs=1e-3)


def test_what_is_pruned_stays_zero_while_training_goes_on():
    def train(model, epochs, after_batch):
        def checked():
            after_batch()
            assert sparsity_facts(model)["sparsity"] >= 0.5 - 1e-4

        digits.train(model, epochs, checked)

    prune_weights(digits.trained(), 0.5, train, rounds=1)


@pytest.mark.parametrize("killed_in", [1, 2, 3])
def test_a_killed_run_ends_at_the_same_weights(tmp_path, killed_in):
    calls = []

    def train(model, epochs, after_batch):
        calls.append(epochs)
        digits.train(model, epochs, after_batch)
        if len(calls) == killed_in:
            raise Killed

    whole, resumed = digits.trained(), digits.trained()
    prune_weights(whole, 0.8, digits.train, rounds=3)
    with pytest.raises(Killed):
        prune_weights(resumed, 0.8, train, rounds=3, checkpoint=Checkpoint(tmp_path))
    resumed, line = digits.trained(), Line(None, "")
    facts = prune_weights(resumed, 0.8, train, rounds=3, checkpoint=Checkpoint(tmp_path), line=line)
    assert line.steps == 4 - killed_in
    assert len(calls) == 4
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    assert prune_weights(digits.Network(), 0.8, train, rounds=3, checkpoint=Checkpoint(tmp_path)) == facts
    assert len(calls) == 4


def test_two_of_every_four_inputs_stay():
    network = digits.trained()
    before = _accuracy(network)
    facts = mask_two_of_four(network, digits.train, epochs=4)
    assert facts["dense_layers"] == 1  # one channel comes in
    assert facts["by_layer"] == {"first": 0, "second": 0.5, "head": 0.5}
    for weight in (network.second.weight, network.head.weight):
        fours = weight.movedim(1, -1).reshape(-1, 4)
        assert (fours != 0).sum(1).eq(2).all()
    assert _accuracy(network) >= before - 0.02


def test_the_larger_two_stay():
    layer = nn.Linear(4, 1)
    layer.weight.data = torch.tensor([[3.0, -4.0, 1.0, 2.0]])
    mask_two_of_four(layer, _no_training)
    assert layer.weight.tolist() == [[3.0, -4.0, 0.0, 0.0]]


def test_tied_weights_are_pruned_once():
    network = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    network[1].weight = network[0].weight
    assert prune_weights(network, 0.5, _no_training, rounds=1)["weights"] == 64


def test_sparse_weights_compress_better(tmp_path):
    network = digits.trained()
    dense = _written(network, tmp_path / "dense")
    prune_weights(network, 0.9, _no_training, rounds=1)
    sparse = _written(network, tmp_path / "sparse")
    assert compressed_bytes(sparse) < 0.4 * compressed_bytes(dense)
    assert compressed_bytes(dense) == len(gzip.compress(dense.read_bytes(), 6, mtime=0))


def _written(network, path):
    path.write_bytes(b"".join(parameter.detach().numpy().tobytes() for parameter in network.parameters()))
    return path


@pytest.mark.parametrize("sparsity", [0.0, 1.0, -0.5, 80, float("nan")])
def test_a_sparsity_lies_between_0_and_1(sparsity):
    with pytest.raises(ConfigRejected, match=r"between 0 and 1, such as 0\.8"):
        prune_weights(digits.Network(), sparsity, _no_training)


def test_a_model_without_weights_to_prune_is_told():
    with pytest.raises(ConfigRejected, match="no convolution or linear layer"):
        prune_weights(nn.Sequential(nn.BatchNorm2d(4)), 0.5, _no_training)
    with pytest.raises(ConfigRejected, match="divides by 4"):
        mask_two_of_four(nn.Linear(3, 3), _no_training)
