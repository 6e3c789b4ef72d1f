import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from headrace.errors import EngineFailed, TensorRejected
from headrace.tensors import DTYPES
from protocol.tensors_binary import from_raw, num_elements, to_raw

FIXED = sorted(set(DTYPES) - {"BYTES"})


def _text(*items):
    return np.array(items, dtype=object)


@pytest.mark.parametrize("dtype", FIXED)
def test_fixed_width_data_is_a_view_of_the_body(dtype):
    width = DTYPES[dtype].itemsize
    body = bytes(i % 2 for i in range(1 + 6 * width))
    data = memoryview(body)[1:]
    array = from_raw("x", dtype, [2, 3], data)
    assert array.shape == (2, 3)
    assert array.dtype == DTYPES[dtype]
    assert np.shares_memory(array, np.frombuffer(body, np.uint8))
    assert bytes(to_raw(array)) == bytes(data)


@pytest.mark.parametrize("dtype", sorted(DTYPES))
@pytest.mark.parametrize("shape", [[0], [0, 4], [3, 0, 2]])
def test_an_empty_tensor_has_no_bytes_and_keeps_its_shape(dtype, shape):
    array = from_raw("x", dtype, shape, memoryview(b""))
    assert array.shape == tuple(shape)
    assert array.dtype == DTYPES[dtype]
    assert to_raw(array) == b""


def test_a_shape_without_dimensions_is_one_element():
    array = from_raw("x", "INT32", [], memoryview(b"\x07\0\0\0"))
    assert array.shape == ()
    assert array == 7
    assert bytes(to_raw(array)) == b"\x07\0\0\0"


def test_arrays_of_any_layout_are_written_row_by_row_and_little_endian():
    array = np.arange(6, dtype=np.int16).reshape(2, 3)
    expected = array.tobytes()
    for same in (np.asfortranarray(array), array.astype(">i2"), np.repeat(array, 2, axis=1)[:, ::2]):
        assert bytes(to_raw(same)) == expected


def test_a_contiguous_array_is_written_without_a_copy():
    array = np.arange(6.0)
    assert np.shares_memory(np.frombuffer(to_raw(array), np.uint8), array)


@pytest.mark.parametrize("items", [[b""], [b"", b"a", b"\0\xff"], [b"x" * 300, "h\u00e9".encode()]])
def test_bytes_go_both_ways_as_triton_writes_them(items):
    theirs = serialize_byte_tensor(_text(*items)).item()
    ours = from_raw("x", "BYTES", [1, len(items)], memoryview(theirs))
    assert ours.shape == (1, len(items))
    assert ours.reshape(-1).tolist() == items
    assert to_raw(ours) == theirs
    assert deserialize_bytes_tensor(to_raw(ours)).tolist() == items


def test_text_of_an_engine_is_written_as_utf8():
    expected = struct.pack("<I", 2) + "\u00e9".encode()
    assert to_raw(_text("\u00e9")) == to_raw(np.array(["\u00e9"])) == expected
    assert to_raw(np.array([b"ab"])) == b"\2\0\0\0ab"


def test_other_objects_of_an_engine_are_its_failure():
    with pytest.raises(EngineFailed, match="holds a int"):
        to_raw(_text(1))


@pytest.mark.parametrize(
    ("shape", "data", "words"),
    [
        ([1], b"\1\0\0", "at least 4"),
        ([2], b"\1\0\0\0a" + b"\0\0\0", r"ends before the length of element 1 of 2"),
        ([1], b"\xff\xff\xff\xffab", r"element 0 claims 4294967295 bytes; 2 are left"),
        ([1], b"\1\0\0\0ab", "1 bytes after its last element"),
        ([0], b"\0", "1 bytes after its last element"),
    ],
)
def test_bytes_that_do_not_fill_the_shape_are_refused(shape, data, words):
    with pytest.raises(TensorRejected, match=words):
        from_raw("x", "BYTES", shape, memoryview(data))


@pytest.mark.parametrize("shape", [[2**62, 4], [2**40, 2**40], [0, 2**62, 2**62], [2**63], [10**30]])
@pytest.mark.parametrize("dtype", ["FP32", "BYTES"])
def test_a_shape_beyond_any_memory_is_refused(dtype, shape):
    with pytest.raises(TensorRejected, match="elements are allowed"):
        from_raw("x", dtype, shape, memoryview(b""))


@pytest.mark.parametrize("shape", [[-1], [2, -3], [-1, -4], [1.0], ["2"], [True], [None], [[2]]])
def test_a_dimension_is_a_whole_number_from_zero(shape):
    with pytest.raises(TensorRejected, match="each dimension must be an integer, 0 or more"):
        num_elements(shape, "input 'x'")


def test_the_elements_of_a_shape_are_their_product():
    assert num_elements([]) == 1
    assert num_elements([2, 3, 4]) == 24
    assert num_elements([2, 0, 4]) == 0


@pytest.mark.parametrize("shape", [[3], [5], [2**58], [0]])
@pytest.mark.parametrize("dtype", ["FP32", "BYTES"])
def test_a_shape_that_does_not_fit_the_data_is_refused_before_memory_is_taken(dtype, shape):
    with pytest.raises(TensorRejected, match="input 'x' has"):
        from_raw("x", dtype, shape, memoryview(bytes(17)))


def test_a_boolean_byte_is_0_or_1():
    with pytest.raises(TensorRejected, match="holds the byte 2; allowed are 0 and 1"):
        from_raw("x", "BOOL", [3], memoryview(b"\0\1\2"))


@settings(max_examples=200, deadline=None)
@given(
    dtype=st.sampled_from(sorted(DTYPES)) | st.text(max_size=5),
    shape=st.lists(st.integers(-1, 5) | st.integers(), max_size=4),
    data=st.binary(max_size=64),
)
def test_any_bytes_are_a_tensor_of_that_shape_or_a_refusal(dtype, shape, data):
    try:
        array = from_raw("x", dtype, shape, memoryview(data))
    except TensorRejected:
        return
    assert array.shape == tuple(shape)
    assert bytes(to_raw(array)) == data
