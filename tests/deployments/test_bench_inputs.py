"""Requests for a load fit the model, differ as asked, and are the same for the same seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from deployments.bench_inputs import Requests, Sizes, Takes, parse_sizes, takes
from headrace.errors import ConfigRejected, EngineFailed
from headrace.tensors import DTYPES, Signature, TensorSpec
from optimize.inputs import read_inputs, write_inputs
from protocol.rest import model_metadata

SIGNATURE = Signature(
    inputs=(
        TensorSpec("ids", "INT64", ("batch", "length"), low=0, high=999),
        TensorSpec("mask", "INT64", ("batch", "length"), low=0, high=1),
        TensorSpec("image", "FP32", ("batch", 3, "height")),
    ),
    outputs=(TensorSpec("y", "FP32", ("batch", 2)),),
    limits={"length": 128},
)
METADATA = orjson.loads(model_metadata("m", ["1"], "onnxruntime", SIGNATURE))


def made(known: Takes, *size: str, rows: int = 1, seed: int = 0, same: int = 0) -> Requests:
    return Requests("h", "m", None, known.inputs, parse_sizes(size, known), rows, seed, same)


def test_what_the_server_says_is_what_the_model_takes() -> None:
    known = takes(METADATA)
    assert known.inputs == SIGNATURE.inputs
    assert known.dims == ["length", "height"]
    assert known.limits == {"length": 128}


def test_requests_fit_the_signature() -> None:
    requests = made(takes(METADATA), "length=5,9", "height=7", rows=3)
    for number in range(50):
        sizes = SIGNATURE.check(requests.tensors(number))
        assert sizes["batch"] == 3
        assert sizes["length"] in (5, 9)


@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_every_datatype_can_be_made_and_all_requests_differ(dtype: str) -> None:
    signature = Signature(inputs=(TensorSpec("x", dtype, ("batch", 64)),), outputs=())
    requests = made(Takes(signature.inputs, {}))
    for number in range(20):
        signature.check(requests.tensors(number))
    assert len({requests.made(number) for number in range(200)}) == 200


def test_requests_go_on_differing_past_the_first_drawing() -> None:
    requests = made(takes(METADATA))
    bodies = [requests.made(number) for number in (0, 1, 1 << 20, (1 << 20) + 1)]
    assert len(set(bodies)) == 4


def test_the_same_seed_makes_the_same_requests() -> None:
    first, second, other = (made(takes(METADATA), seed=seed) for seed in (1, 1, 2))
    assert [first.made(number) for number in (3, 0)] == [second.made(number) for number in (3, 0)]
    assert first.made(3) != other.made(3)


def test_so_many_different_requests_come_again_and_again() -> None:
    requests = made(takes(METADATA), same=4)
    assert len({requests.made(number) for number in range(100)}) == 4


def test_sizes_come_as_often_as_their_weights_say() -> None:
    requests = made(takes(METADATA), "length=8:3,32:1")
    sizes = [requests.tensors(number)["ids"].shape[1] for number in range(2000)]
    assert 0.7 < sizes.count(8) / 2000 < 0.8


def test_a_size_that_is_not_given_is_a_usual_one_within_the_limit() -> None:
    known = takes(METADATA)
    assert parse_sizes([], known)["length"] == Sizes((16,), (1.0,))
    assert parse_sizes([], Takes(known.inputs, {"length": 4}))["length"] == Sizes((4,), (1.0,))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("lenght=8", "the model has: length, height"),
        ("length", "must look like length=16,32,64"),
        ("length=a", "must look like"),
        ("length=0", "must look like"),
        ("length=8:0", "must look like"),
        ("length=8:1.2.3", "must look like"),
        ("length=129", "the model takes up to 128"),
    ],
)
def test_a_wrong_size_is_told(text: str, told: str) -> None:
    with pytest.raises(ConfigRejected, match=told):
        parse_sizes([text], takes(METADATA))


def test_dimensions_without_names_are_called_by_input_and_axis() -> None:
    known = takes({"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4, -1]}]})
    assert known.inputs[0].shape == ("batch", 4, "x.2")
    known = takes(
        {
            "inputs": [
                {"name": "x", "datatype": "FP32", "shape": [-1]},
                {"name": "y", "datatype": "FP32", "shape": [4]},
            ]
        }
    )
    assert known.dims == ["x.0"]


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"inputs": []},
        {"inputs": [{"name": "x"}]},
        {"inputs": [{"name": "x", "datatype": "F", "shape": []}]},
    ],
)
def test_what_is_no_metadata_is_the_servers_fault(metadata: dict[str, Any]) -> None:
    with pytest.raises(EngineFailed):
        takes(metadata)


def test_real_inputs_come_in_turn(tmp_path: Path) -> None:
    rows = [{"x": np.full((1, 2), number, np.float32)} for number in range(3)]
    write_inputs(tmp_path / "in.npz", rows)
    requests = Requests("h", "m", None, (), {}, 1, 0, given=read_inputs(tmp_path / "in.npz"))
    assert [requests.tensors(number)["x"][0, 0] for number in range(5)] == [0, 1, 2, 0, 1]


def test_the_first_requests_are_those_of_the_stream() -> None:
    requests = made(takes(METADATA))
    first = requests.first(3)
    assert len(first) == 3
    assert [next(stream) for stream in [requests.stream()] for _ in range(3)] == list(
        map(first.__getitem__, range(3))
    )
