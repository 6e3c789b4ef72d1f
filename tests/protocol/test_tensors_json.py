import numpy as np
import orjson
import pytest

from headrace.errors import CallerError, TensorRejected
from headrace.tensors import DTYPES
from protocol.tensors_json import from_json, to_json


@pytest.mark.parametrize(
    ("dtype", "data", "words"),
    [
        ("UINT8", [1, 300], "holds 300; allowed are 0 to 255"),
        ("UINT64", [2**64 - 1, -1], "holds -1; allowed are 0 to 18446744073709551615"),
        ("INT64", [0, 2**63], "holds 9223372036854775808"),
        ("INT8", [-129, 0], "holds -129; allowed are -128 to 127"),
        ("INT64", [1, 1.5], "must be integers; got 1.5"),
        ("INT64", [1, "2"], "must be integers; got '2'"),
        ("INT64", [1, True], "must be integers; got True"),
        ("INT64", [1, None], "must be integers; got None"),
        ("BOOL", [True, 1], "must be true or false; got 1"),
        ("FP32", [1, 1e39], "holds 1e.39; allowed are -3.4"),
        ("FP16", [65504, 65520], "holds 65520.0"),
        ("FP32", [1, False], "must be numbers; got False"),
        ("FP32", [1, {}], "must be numbers; got {}"),
        ("BYTES", ["a", 1], "must be strings"),
        ("FP32", [[1], [2, 3]], "ragged"),
        ("FP32", [[1], 2], "ragged"),
        ("FP32", [[[]], []], "ragged"),
        ("FP32", [1, 2, 3], r"3 elements; shape \[2\] needs 2"),
        ("FP32", [], r"0 elements"),
    ],
)
def test_values_that_the_tensor_cannot_hold_are_refused(dtype, data, words):
    with pytest.raises(TensorRejected, match=words):
        from_json("x", dtype, [2], data)


@pytest.mark.parametrize("dtype", ["FP32", "INT8", "UINT64"])
@pytest.mark.parametrize("data", [[[1, 2], [3, 4]], [1, 2, 3, 4], [[[1], [2], [3], [4]]]])
def test_nested_and_flat_data_are_the_same_tensor(dtype, data):
    array = from_json("x", dtype, [2, 2], data)
    assert array.dtype == DTYPES[dtype]
    assert array.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("dtype", sorted(set(DTYPES) - {"BF16"}))
@pytest.mark.parametrize(("shape", "data"), [([0], []), ([0, 4], []), ([2, 0], [[], []])])
def test_an_empty_list_is_an_empty_tensor_of_that_shape(dtype, shape, data):
    array = from_json("x", dtype, shape, data)
    assert array.shape == tuple(shape)
    assert array.dtype == DTYPES[dtype]


def test_bf16_is_refused_both_ways_with_what_to_do_instead():
    with pytest.raises(
        TensorRejected, match="BF16, which JSON does not carry; send it with binary_data_size"
    ):
        from_json("x", "BF16", [1], [1.0])
    with pytest.raises(CallerError, match='ask for it with "binary_data": true'):
        to_json("y", np.zeros(1, DTYPES["BF16"]))


@pytest.mark.parametrize(
    ("dtype", "array"),
    [
        ("INT64", np.arange(100_000)),
        ("UINT64", np.arange(2**64 - 100_000, 2**64 - 1, dtype=np.uint64)),
        ("FP32", np.random.default_rng(0).random(100_000, np.float32)),
        ("FP16", np.arange(0x7C00, dtype=np.uint16).view(np.float16)),
    ],
)
def test_a_long_list_goes_both_ways_bit_for_bit(dtype, array):
    text = orjson.dumps(to_json("x", array), option=orjson.OPT_SERIALIZE_NUMPY)
    back = from_json("x", dtype, array.shape, orjson.loads(text))
    assert back.dtype == array.dtype
    assert back.tobytes() == array.tobytes()


def test_text_becomes_utf8_bytes():
    array = from_json("x", "BYTES", [1, 2], ["", "gr\u00fcn"])
    assert array.tolist() == [[b"", "gr\u00fcn".encode()]]
    assert to_json("x", array) == ["", "gr\u00fcn"]


@pytest.mark.parametrize("dtype", ["FP16", "FP32", "FP64"])
def test_an_integer_beyond_every_float_is_refused(dtype):
    with pytest.raises(TensorRejected, match="beyond its range"):
        from_json("x", dtype, [1], [10**400])
