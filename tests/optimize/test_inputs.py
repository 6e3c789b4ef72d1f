"""Inputs on their way through a file: the same bits, and no pickle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from headrace.errors import ConfigRejected
from headrace.tensors import DTYPES, dtype_name
from optimize.inputs import read_inputs, write_inputs


@pytest.mark.parametrize("dtype", sorted(DTYPES))
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_every_datatype_comes_back_as_it_was(dtype: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    given = np.asarray(random.integers(0, 2, shape)).astype(DTYPES[dtype])
    if dtype == "BYTES":
        given = np.empty(shape, object)
        given[...] = "Zürich".encode()
    write_inputs(tmp_path / "in.npz", [{"a": given, "b/c:d": given}])
    (found,) = read_inputs(tmp_path / "in.npz")
    for array in (found["a"], found["b/c:d"]):
        assert dtype_name(array) == dtype
        assert array.shape == shape
        assert np.array_equal(array, given)


def test_texts_keep_their_own_lengths(tmp_path: Path) -> None:
    given = np.array([[b"", b"a\x00"], [b"bcd", b"\xff"]], object)
    write_inputs(tmp_path / "in.npz", [{"t": given}, {"t": given[:1]}])
    first, second = read_inputs(tmp_path / "in.npz")
    assert first["t"].tolist() == given.tolist()
    assert second["t"].tolist() == given[:1].tolist()


def test_the_file_needs_no_pickle(tmp_path: Path) -> None:
    write_inputs(tmp_path / "in.npz", [{"t": np.array([b"x"], object)}])
    with np.load(tmp_path / "in.npz", allow_pickle=False) as arrays:
        assert all(arrays[name].dtype != object for name in arrays.files)


def test_other_byte_orders_become_the_machines_own(tmp_path: Path) -> None:
    write_inputs(tmp_path / "in.npz", [{"x": np.array([1, 2], ">i4")}])
    assert read_inputs(tmp_path / "in.npz")[0]["x"].tolist() == [1, 2]


def test_no_requests_are_a_file_too(tmp_path: Path) -> None:
    write_inputs(tmp_path / "new" / "in.npz", [])
    assert read_inputs(tmp_path / "new" / "in.npz") == []
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["in.npz"]


def test_a_file_that_is_none_says_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigRejected, match=r"headrace inputs MODEL --out none\.npz"):
        read_inputs(tmp_path / "none.npz")
    for name, data in {"text.npz": b"hello", "empty.npz": b"", "zip.npz": b"PK\x03\x04 broken"}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ConfigRejected, match="holds no inputs that can be read"):
            read_inputs(tmp_path / name)


def test_arrays_of_somebody_else_and_pickled_ones_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(ConfigRejected, match="holds no inputs"):
        read_inputs(tmp_path / "other.npz")
    np.savez(tmp_path / "pickled.npz", headrace=np.array([{}], object))
    with pytest.raises(ConfigRejected, match="holds no inputs"):
        read_inputs(tmp_path / "pickled.npz")
