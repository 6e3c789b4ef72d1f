from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cache.keys import key_of
from headrace.errors import CallerError, TensorRejected

NUMERIC = st.sampled_from([np.dtype(code) for code in ("?", "u1", "i4", "i8", "f2", "f4", "f8")])
ARRAYS = hnp.arrays(NUMERIC, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
INPUTS = st.dictionaries(st.text(max_size=3), ARRAYS, max_size=3)
SCALARS = st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=4))
PARAMETERS = st.dictionaries(st.text(max_size=3), SCALARS, max_size=3)
OUTPUTS = st.lists(st.text(max_size=3), max_size=3, unique=True).map(tuple)
REQUESTS = st.tuples(st.text(max_size=4), INPUTS, OUTPUTS, PARAMETERS, st.text(max_size=4))

IDS = np.arange(6, dtype=np.int64).reshape(2, 3)


def key(
    digest: str = "d", inputs: Any = None, outputs: Any = (), parameters: Any = None, tenant: str = ""
) -> bytes:
    return key_of(digest, {"ids": IDS} if inputs is None else inputs, outputs, parameters or {}, tenant)


def meaning(request: tuple[Any, ...]) -> tuple[Any, ...]:
    """What a key must tell apart, as plain values."""
    digest, inputs, outputs, parameters, tenant = request
    tensors = {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in inputs.items()}
    scalars = {
        name: (type(value), value.hex() if isinstance(value, float) else value)
        for name, value in parameters.items()
    }
    return digest, sorted(tensors.items()), sorted(outputs), sorted(scalars.items(), key=repr), tenant


@given(REQUESTS, REQUESTS)
def test_keys_are_equal_exactly_when_requests_are(one: Any, other: Any) -> None:
    assert (key_of(*one) == key_of(*other)) == (meaning(one) == meaning(other))


@given(REQUESTS, st.sampled_from([np.dtype(code) for code in ("u1", "i8", "f4")]))
def test_a_change_in_any_part_gives_another_key(request_: Any, dtype: np.dtype[Any]) -> None:
    digest, inputs, outputs, parameters, tenant = request_
    base = key_of(*request_)
    more = {**inputs, "extra": np.zeros(1, dtype)}
    changed = [
        (digest + "x", inputs, outputs, parameters, tenant),
        (digest, more, outputs, parameters, tenant),
        (digest, {**inputs, "extra": np.zeros((1, 1), dtype)}, outputs, parameters, tenant),
        (digest, {**inputs, "extra": np.zeros(1, np.int16)}, outputs, parameters, tenant),
        (digest, {**inputs, "extra": np.ones(1, dtype)}, outputs, parameters, tenant),
        (digest, inputs, (*outputs, "extra"), parameters, tenant),
        (digest, inputs, outputs, {**parameters, "extra": 0}, tenant),
        (digest, inputs, outputs, parameters, tenant + "x"),
    ]
    assert len({base, *(key_of(*request) for request in changed)}) == len(changed) + 1


def test_of_millions_of_pairs_those_are_equal_that_mean_the_same() -> None:
    """Every one of 5,184 requests with every other: the same twelve bytes, told apart by each part alone."""
    raw = bytes(range(12))
    tensors = [
        {name: np.frombuffer(raw, dtype).reshape(shape)}
        for name in ("a", "ab")
        for dtype, shapes in (("u1", ((12,), (3, 4), (4, 3))), ("i4", ((3,), (3, 1))), ("f4", ((3,), (1, 3))))
        for shape in shapes
    ]
    tensors += [{"a": np.frombuffer(raw[:6], "u1"), "b": np.frombuffer(raw[6:], "u1")}]
    tensors += [{"a": np.array([b"ab", b"c"], object)}, {"a": np.array([b"a", b"bc"], object)}]
    tensors += [{"a": np.array(["ab", "c"], object)}]
    parts: list[list[Any]] = [
        ["d", "dd"],
        tensors,
        [(), ("y",), ("y", "z")],
        [{}, {"p": 1}, {"p": 1.0}, {"p": True}, {"p": "1"}, {"p": "1", "q": 1}],
        ["", "t", "tt", "y"],
        ["", "x"],
    ]
    requests = [
        (digest + suffix, inputs, outputs, parameters, tenant)
        for digest, inputs, outputs, parameters, tenant, suffix in product(*parts)
    ]
    keys = {key_of(*request) for request in requests}
    assert len(requests) * (len(requests) - 1) // 2 > 10**6
    assert len(keys) == len(requests)
    assert keys == {key_of(*request) for request in requests}


@given(ARRAYS)
def test_memory_layout_and_byte_order_do_not_matter(array: np.ndarray[Any, Any]) -> None:
    wide = np.zeros(tuple(2 * size for size in array.shape), array.dtype)
    steps: Any = (*(slice(None, None, 2) for _ in array.shape), ...)
    strided = wide[steps]
    strided[...] = array
    swapped = array.astype(array.dtype.newbyteorder())
    same = [array, np.asfortranarray(array).reshape(array.shape), strided, swapped]
    assert len({key(inputs={"x": each}) for each in same}) == 1


def test_the_order_of_inputs_outputs_and_parameters_does_not_matter() -> None:
    one = key(inputs={"a": IDS, "b": IDS + 1}, outputs=("y", "z"), parameters={"k": 1, "t": 2})
    other = key(inputs={"b": IDS + 1, "a": IDS}, outputs=("z", "y"), parameters={"t": 2, "k": 1})
    assert one == other
    assert len(one) == 32


def test_parameters_that_compare_equal_but_differ_in_type_give_other_keys() -> None:
    values = [1, True, 1.0, "1", 0, False, 0.0, -0.0, "", "True"]
    assert len({key(parameters={"p": value}) for value in values}) == len(values)


def test_a_parameter_may_be_a_very_large_integer() -> None:
    assert key(parameters={"p": 10**5000}) != key(parameters={"p": 10**5000 + 1})


def test_a_parameter_that_is_no_scalar_is_rejected() -> None:
    with pytest.raises(CallerError, match="'p' is list"):
        key(parameters={"p": [1]})


def test_swapped_contents_of_two_inputs_give_another_key() -> None:
    assert key(inputs={"a": IDS, "b": IDS + 1}) != key(inputs={"a": IDS + 1, "b": IDS})


@given(
    st.lists(st.one_of(st.binary(max_size=3), st.text(max_size=3)), max_size=4),
    st.lists(st.one_of(st.binary(max_size=3), st.text(max_size=3)), max_size=4),
)
def test_bytes_tensors_are_told_apart_by_element_type_and_length(one: list[Any], other: list[Any]) -> None:
    first, second = (np.array([*elements, None], dtype=object)[:-1] for elements in (one, other))
    assert (key(inputs={"x": first}) == key(inputs={"x": second})) == (one == other)


def test_fixed_width_strings_are_the_same_bytes_tensor() -> None:
    assert key(inputs={"x": np.array([b"a", b"bc"])}) == key(inputs={"x": np.array([b"a", b"bc"], object)})
    assert key(inputs={"x": np.array(["a", "bc"])}) == key(inputs={"x": np.array(["a", "bc"], object)})


def test_what_the_protocol_cannot_carry_is_rejected() -> None:
    with pytest.raises(TensorRejected):
        key(inputs={"x": np.zeros(1, np.complex64)})
    with pytest.raises(TensorRejected, match="NoneType"):
        key(inputs={"x": np.array([None], dtype=object)})
