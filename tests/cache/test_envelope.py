from __future__ import annotations

import hashlib
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cache.envelope import Damaged, pack, unpack
from headrace.errors import TensorRejected

CODES = ("?", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", ">i4", ">f8", "S3", "U2")
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
STRINGS = st.one_of(st.binary(max_size=5), st.text(max_size=5))
OBJECTS = hnp.arrays(np.dtype(object), SHAPES, elements=STRINGS, fill=st.nothing())
NUMERIC = hnp.arrays(st.sampled_from([np.dtype(code) for code in CODES]), SHAPES)
TENSORS = st.dictionaries(st.text(max_size=5), st.one_of(NUMERIC, OBJECTS), max_size=3)

KEY = b"model:1:-:key"
NOW = 1_764_100_000.125
SMALL = {"y": np.array([1.5, np.nan], dtype=np.float32), "s": np.array([b"ab", "c", b""], dtype=object)}


def sealed(payload: bytes) -> bytes:
    """A value whose header and digest are right, whatever the payload says."""
    return struct.pack("<3sBQ32s", b"HRC", 2, len(payload), hashlib.sha256(KEY + payload).digest()) + payload


def tensor(dtype: bytes, shape: tuple[int, ...], content: bytes, num_bytes: int | None = None) -> bytes:
    length = len(content) if num_bytes is None else num_bytes
    head = struct.pack("<IBB", 1, len(dtype), len(shape)) + b"y" + dtype
    return head + struct.pack(f"<{len(shape)}Q", *shape) + struct.pack("<Q", length) + content


@given(TENSORS)
def test_tensors_come_back_with_the_same_bits(tensors: dict[str, Any]) -> None:
    got, made_at = unpack(KEY, pack(KEY, tensors, NOW))
    assert made_at == NOW
    assert list(got) == list(tensors)
    for name, array in tensors.items():
        assert (got[name].dtype, got[name].shape) == (array.dtype, array.shape)
        assert not got[name].flags.writeable
        if array.dtype.hasobject:
            assert got[name].tolist() == array.tolist()
        else:
            assert got[name].tobytes() == array.tobytes()


@given(TENSORS, st.data())
def test_any_flipped_byte_is_damage(tensors: dict[str, Any], data: st.DataObject) -> None:
    value = bytearray(pack(KEY, tensors, NOW))
    value[data.draw(st.integers(0, len(value) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Damaged):
        unpack(KEY, bytes(value))


def test_every_flipped_bit_and_every_shorter_value_is_damage() -> None:
    value = pack(KEY, SMALL, NOW)
    for at in range(len(value)):
        with pytest.raises(Damaged):
            unpack(KEY, value[:at])
        for bit in range(8):
            changed = value[:at] + bytes([value[at] ^ 1 << bit]) + value[at + 1 :]
            with pytest.raises(Damaged):
                unpack(KEY, changed)


def test_bytes_after_the_value_are_damage() -> None:
    with pytest.raises(Damaged):
        unpack(KEY, pack(KEY, SMALL, NOW) + b"\0")


@pytest.mark.parametrize("value", [b"", b"HRC", b"junk" * 50, b"\x80\x04N.", "text", 7])
def test_what_was_never_ours_is_damage(value: Any) -> None:
    with pytest.raises(Damaged):
        unpack(KEY, value)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        struct.pack("<QI", 0, 2**32 - 1),
        struct.pack("<QI", 0, 0) + b"more",
        struct.pack("<QI", 0, 1) + tensor(b"<f4", (2,), b"\0" * 4),
        struct.pack("<QI", 0, 1) + tensor(b"<f4", (2,), b"\0" * 8, num_bytes=2**60),
        struct.pack("<QI", 0, 1) + tensor(b"<f4", (2**62, 4), b""),
        struct.pack("<QI", 0, 1) + tensor(b"<f4", (0, 2**63), b""),
        struct.pack("<QI", 0, 1) + tensor(b"<f4", (1,) * 200, b"\0" * 4),
        struct.pack("<QI", 0, 1) + tensor(b"|O", (2**62,), b""),
        struct.pack("<QI", 0, 1) + tensor(b"|O", (0, 2**63), b""),
        struct.pack("<QI", 0, 1) + tensor(b"|O", (1,), struct.pack("<cQ", b"b", 2**60)),
        struct.pack("<QI", 0, 1) + tensor(b"|O", (1,), struct.pack("<cQ", b"?", 0)),
        struct.pack("<QI", 0, 1) + tensor(b"|O", (1,), struct.pack("<cQ", b"s", 1) + b"\xff"),
        struct.pack("<QI", 0, 1) + tensor(b"|O", (1,), struct.pack("<cQ", b"b", 0) + b"more"),
        struct.pack("<QI", 0, 1) + tensor(b"<c8", (1,), b"\0" * 8),
        struct.pack("<QI", 0, 1) + tensor(b"<f4,<f4", (1,), b"\0" * 8),
        struct.pack("<QI", 0, 1) + tensor(b"<U999999999999", (0,), b""),
        struct.pack("<QI", 0, 2) + 2 * tensor(b"<f4", (1,), b"\0" * 4),
    ],
)
def test_a_payload_that_lies_is_damage_even_under_a_right_digest(payload: bytes) -> None:
    with pytest.raises(Damaged):
        unpack(KEY, sealed(payload))


def test_the_value_of_another_key_is_damage() -> None:
    with pytest.raises(Damaged):
        unpack(KEY + b"x", pack(KEY, SMALL, NOW))


def test_another_version_is_damage() -> None:
    value = pack(KEY, SMALL, NOW)
    with pytest.raises(Damaged):
        unpack(KEY, value[:3] + b"\x01" + value[4:])


def test_payloads_of_nan_survive() -> None:
    bits = np.array([0x7FC00001, 0xFFC12345, 0x7F800001], dtype=np.uint32)
    assert (
        unpack(KEY, pack(KEY, {"y": bits.view(np.float32)}, NOW))[0]["y"].view(np.uint32).tolist()
        == bits.tolist()
    )


def test_a_view_with_strides_comes_back_in_its_own_shape() -> None:
    view = np.arange(24).reshape(4, 6)[::2, ::-3].T
    assert np.array_equal(unpack(KEY, pack(KEY, {"y": view}, NOW))[0]["y"], view)


def test_what_comes_back_does_not_keep_the_value_alive() -> None:
    assert unpack(KEY, pack(KEY, SMALL, NOW))[0]["y"].base is None


def test_what_the_protocol_cannot_carry_is_rejected() -> None:
    with pytest.raises(TensorRejected):
        pack(KEY, {"y": np.zeros(1, np.complex64)}, NOW)
    with pytest.raises(TensorRejected):
        pack(KEY, {"y": np.array([object()], dtype=object)}, NOW)
