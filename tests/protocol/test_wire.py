"""Bytes fields are taken out of a message without its being parsed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import CallerError
from protocol import messages, wire

RAW = 7  # raw_input_contents


def message(contents: list[bytes], **fields: str) -> bytes:
    document = messages.ModelInferRequest(raw_input_contents=contents, **fields)
    document.inputs.add(name="x", shape=[-1, 2**40])
    document.parameters["p"].double_param = 0.5
    encoded: bytes = document.SerializeToString()
    return encoded


@given(contents=st.lists(st.binary(max_size=300)), name=st.text(max_size=200))
def test_what_is_taken_out_and_what_is_left_are_the_message(contents: list[bytes], name: str) -> None:
    whole = message(contents, model_name=name)
    rest, values = wire.split(whole, RAW)
    assert [bytes(value) for value in values] == contents
    assert rest == message([], model_name=name) if contents else rest is whole


def test_values_are_views_and_may_stand_anywhere() -> None:
    first, second = message([b"a" * 1000], id="1"), message([b"", b"b"], model_name="m")
    whole = first + second  # protobuf merges messages that follow each other
    rest, values = wire.split(whole, RAW)
    assert [bytes(value) for value in values] == [b"a" * 1000, b"", b"b"]
    assert all(value.obj is whole for value in values)
    document = messages.ModelInferRequest.FromString(rest)
    assert (document.id, document.model_name, len(document.inputs)) == ("1", "m", 2)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 300, 1 << 21])
def test_a_head_is_what_protobuf_writes(size: int) -> None:
    value = b"x" * size
    assert wire.head(RAW, size) + value == message([value])[-len(wire.head(RAW, size)) - size :]


@pytest.mark.parametrize(
    "damaged",
    [b"\x3a\x05ab", b"\x3a", b"\xff" * 11, b"\x0b", b"\x09\x00", b"\x0d\x00", b"\x3a\xff\xff\xff\xff\x7f"],
)
def test_a_damaged_message_is_the_callers_mistake(damaged: bytes) -> None:
    with pytest.raises(CallerError, match="protobuf message"):
        wire.split(damaged, RAW)


@settings(max_examples=300)
@given(st.binary(max_size=60))
def test_any_bytes_are_split_or_refused(noise: bytes) -> None:
    try:
        rest, values = wire.split(noise, RAW)
    except CallerError:
        return
    assert len(rest) + sum(map(len, values)) <= len(noise)
