import resource

import pytest
import torch
from torch import nn

from optimize.checkpoint import Checkpoint, seed, tensors_of
from tests import digits


class Tied(nn.Module):
    """One weight under two names, and one that is a transposed view."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(6, 4)
        self.head = nn.Linear(4, 6, bias=False)
        self.head.weight = self.table.weight
        self.turned = nn.Parameter(torch.randn(3, 5).T)


def _same(first, second):
    other = second.state_dict()
    return all(torch.equal(tensor, other[name]) for name, tensor in first.state_dict().items())


def test_a_round_gives_back_weights_buffers_and_facts(tmp_path):
    first, second = digits.trained(), digits.Network(seed=1)
    Checkpoint(tmp_path / "new").save("round-1", first, {"sparsity": 0.5})
    assert Checkpoint(tmp_path / "new").load("round-1", second) == {"sparsity": 0.5}
    assert _same(first, second)


def test_tied_and_turned_weights_stay_what_they_are(tmp_path):
    first, second = Tied(), Tied()
    assert "head.weight" not in tensors_of(first)
    Checkpoint(tmp_path).save("round", first, {})
    assert Checkpoint(tmp_path).load("round", second) == {}
    assert _same(first, second)
    assert second.head.weight is second.table.weight
    assert not second.turned.is_contiguous()


def test_other_tensors_and_facts_can_be_had_alone(tmp_path):
    checkpoint = Checkpoint(tmp_path)
    checkpoint.save("round", Tied(), {"history": [["a", True, [1, 2]]]}, {"optimizer.0": torch.arange(3)})
    assert checkpoint.facts("round") == {"history": [["a", True, [1, 2]]]}
    assert checkpoint.more("round")["optimizer.0"].tolist() == [0, 1, 2]


def test_a_round_that_is_missing_broken_or_of_another_shape_is_no_round(tmp_path):
    checkpoint = Checkpoint(tmp_path)
    network = digits.Network(8)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert checkpoint.load("never", network) is None
    checkpoint.save("wide", digits.Network(16), {})
    assert checkpoint.load("wide", network) is None
    whole = (tmp_path / "wide.safetensors").read_bytes()
    for cut in (0, 4, 50, len(whole) - 1):
        (tmp_path / "cut.safetensors").write_bytes(whole[:cut])
        assert checkpoint.load("cut", network) is None
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_a_full_disk_leaves_the_last_round(tmp_path):
    checkpoint = Checkpoint(tmp_path)
    checkpoint.save("round", Tied(), {"number": 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            checkpoint.save("round", Tied(), {"number": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert checkpoint.facts("round") == {"number": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["round.safetensors"]


def test_a_seed_repeats_random_numbers():
    seed(3)
    first = torch.rand(2)
    seed(3)
    assert torch.equal(first, torch.rand(2))
