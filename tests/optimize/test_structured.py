import numpy as np
import pytest
import torch
from torch import nn

from headrace.errors import ConfigRejected
from optimize.checkpoint import Checkpoint
from optimize.export import predictor
from optimize.structured import prune_channels, replay
from tests import digits
from tests.networks import Encoder

IMAGE = {"x": np.zeros((1, 1, 8, 8), np.float32)}
TEXT = {"ids": np.zeros((1, 6), np.int64)}
ROW = {"x": np.zeros((1, 8), np.float32)}


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


class Killed(BaseException):
    """As a kill would, it passes every `except Exception`."""


def _no_training(model, epochs, after_batch):
    pass


def _accuracy(network):
    return digits.accuracy(predictor(network, ["x"], ["logits"]))


def test_channels_go_with_their_norms_and_residuals_and_accuracy_stays():
    network = digits.trained()
    before = _accuracy(network)
    facts = prune_channels(network, IMAGE, 0.5, digits.train, epochs=5)
    assert network.first.weight.shape == (16, 1, 3, 3)
    assert network.second.weight.shape == (16, 16, 3, 3)
    assert network.second_norm.running_mean.shape == (16,)
    assert network.head.weight.shape == (10, 16)
    assert facts["parameters_before"] == sum(p.numel() for p in digits.Network().parameters())
    assert facts["parameters_after"] == sum(p.numel() for p in network.parameters()) == 2682
    assert facts["macs_before"] == 4 * 4 * 32 * (9 + 9 * 32) + 320
    assert facts["macs_after"] == 4 * 4 * 16 * (9 + 9 * 16) + 160
    assert _accuracy(network) >= before - 0.04


def test_whole_heads_neurons_and_hidden_sizes_go():
    network = Encoder()
    facts = prune_channels(network, TEXT, 0.5, _no_training, heads=network.heads())
    attention = network.attention
    for layer in (attention.query, attention.key, attention.value):
        assert layer.weight.shape == (16, 16)  # two of four heads, half of the hidden size
    assert attention.out.weight.shape == (16, 16)
    assert (network.up.out_features, network.down.in_features) == (32, 32)
    assert network.places.shape == (1, 6, 16)
    assert network.head.out_features == 5
    assert facts["left"] == []


def test_the_heads_that_matter_least_go_whole():
    network = Encoder()
    with torch.no_grad():
        network.attention.value.weight[8:24] *= 10  # the second and third of four heads
        wanted = network.attention.value.weight[8:24].clone()
    keep = [network.words, network.up, network.down, network.attention.out]
    prune_channels(network, TEXT, 0.5, _no_training, rounds=1, heads=network.heads(), keep=keep)
    assert torch.equal(network.attention.value.weight, wanted)


def test_attention_whose_heads_are_not_named_is_left_alone():
    network = Encoder()
    facts = prune_channels(network, TEXT, 0.5, _no_training)
    assert network.attention.query.out_features == network.attention.out.in_features == 32
    assert len(facts["left"]) == 1
    assert facts["left"][0].startswith("attention.")


def test_what_is_kept_stays():
    network = Encoder()
    prune_channels(network, TEXT, 0.5, _no_training, keep=[network.attention, network.down])
    assert network.words.embedding_dim == network.attention.out.out_features == 32
    assert network.up.out_features == 32


class Gate(nn.Module):
    """One half of the channels gates the other; beside it grouped and depthwise convolutions."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.grouped = nn.Sequential(
            nn.Conv1d(1, 32, 3, padding=1),
            nn.GroupNorm(4, 32),
            nn.Conv1d(32, 32, 3, padding=1, groups=4),
            nn.Conv1d(32, 32, 3, padding=1, groups=32),
            nn.Conv1d(32, 1, 1),
        )
        self.up, self.down, self.head = nn.Linear(8, 64), nn.Linear(32, 16), nn.Linear(16, 5)

    def forward(self, x):
        gate, value = self.up(x + self.grouped(x[:, None])[:, 0]).chunk(2, -1)
        return self.head(self.down(torch.sigmoid(gate) * value))


def test_grouped_channels_and_gates_stay_in_step():
    network = Gate()
    prune_channels(network, ROW, 0.5, _no_training, rounds=2)
    assert (network.up.out_features, network.down.in_features) == (32, 16)
    assert [layer.weight.shape[0] for layer in network.grouped] == [16, 16, 16, 16, 1]
    assert [network.grouped[2].groups, network.grouped[3].groups] == [4, 16]


@pytest.mark.parametrize("network", [Encoder, Gate])
def test_a_history_makes_another_copy_as_small(network):
    first, second = network(), network()
    example, heads = (TEXT, first.heads()) if network is Encoder else (ROW, {})
    facts = prune_channels(first, example, 0.5, _no_training, heads=heads)
    replay(second, example, facts["history"])
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize("killed_in", [1, 2])
def test_a_killed_run_ends_at_the_same_weights(tmp_path, killed_in):
    calls = []

    def train(model, epochs, after_batch):
        calls.append(epochs)
        digits.train(model, epochs, after_batch)
        if len(calls) == killed_in:
            raise Killed

    whole, killed, resumed = (digits.trained() for _ in range(3))
    facts = prune_channels(whole, IMAGE, 0.5, digits.train)
    with pytest.raises(Killed):
        prune_channels(killed, IMAGE, 0.5, train, checkpoint=Checkpoint(tmp_path))
    assert prune_channels(resumed, IMAGE, 0.5, train, checkpoint=Checkpoint(tmp_path)) == facts
    assert len(calls) == 3
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_what_was_left_alone_is_told_again_after_a_kill(tmp_path):
    facts = prune_channels(Encoder(), TEXT, 0.5, _no_training, checkpoint=Checkpoint(tmp_path))
    assert prune_channels(Encoder(), TEXT, 0.5, _no_training, checkpoint=Checkpoint(tmp_path)) == facts
    assert facts["left"]


def test_frozen_parameters_stay_frozen():
    network = digits.trained()
    network.head.bias.requires_grad_(False)
    prune_channels(network, IMAGE, 0.5, _no_training, rounds=1)
    assert not network.head.bias.requires_grad


def test_a_model_that_loses_nothing_is_refused():
    network = nn.Sequential(nn.Linear(8, 4))
    network.forward = lambda x: network[0](x)
    with pytest.raises(ConfigRejected, match="no parameter: every group of channels reaches an output"):
        prune_channels(network, ROW, 0.5, _no_training)


class Added(nn.Module):
    """Adds a layer to its own input, whose size no one can prune."""

    def __init__(self):
        super().__init__()
        self.inner, self.head = nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x):
        return self.head(x + self.inner(x))


def test_a_model_that_no_longer_runs_is_refused_with_the_way_out():
    with pytest.raises(ConfigRejected, match=r"does not run: RuntimeError.*keep\(model\)") as refused:
        prune_channels(Added(), ROW, 0.5, _no_training)
    assert "\n" not in str(refused.value)


class Told(Added):
    """Gives the size of its hidden layer as an output's shape, which no gradient tells."""

    def forward(self, x):
        hidden = self.inner(x)
        return self.head(hidden), torch.zeros(hidden.shape[1]), hidden.argmax(1)


def test_a_model_whose_outputs_change_shape_is_refused():
    with pytest.raises(ConfigRejected, match=r"outputs of shape \[\[1, 2\], \[4\], \[1\]\], the original"):
        prune_channels(Told(), ROW, 0.5, _no_training, rounds=1)


class Fused(nn.Module):
    def __init__(self):
        super().__init__()
        self.all, self.out = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x):
        parts = (part.view(len(x), -1, 2, 4).transpose(1, 2) for part in self.all(x[:, None]).chunk(3, -1))
        query, key, value = parts
        return self.out(((query @ key.transpose(2, 3)).softmax(-1) @ value).transpose(1, 2).flatten(1))


def test_heads_of_one_projection_for_all_three_are_refused():
    network = Fused()
    with pytest.raises(ConfigRejected, match="heads of 'all' cannot be pruned: query, key and value"):
        prune_channels(network, ROW, 0.5, _no_training, heads={network.all: 2})


@pytest.mark.parametrize("ratio", [0.0, 1.0, 50, float("nan")])
def test_a_ratio_lies_between_0_and_1(ratio):
    with pytest.raises(ConfigRejected, match=r"between 0 and 1, such as 0\.5"):
        prune_channels(digits.Network(), IMAGE, ratio, _no_training)
