"""Protobuf's wire format as far as needed to keep tensors out of its parser, which would copy them twice.

A message is a row of fields: a varint (field number << 3 | wire type), then a value: a varint, 8 bytes,
4 bytes, or a varint length and that many bytes.
"""

from __future__ import annotations

from headrace.errors import CallerError

_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5  # wire types
_LONGEST_VARINT = 10  # bytes


def split(message: bytes, number: int) -> tuple[bytes, list[memoryview]]:
    """The values of the top-level bytes field `number` as views, and the message without them.

    CallerError when the message is cut off or is no message.
    """
    view = memoryview(message)
    rest: list[memoryview] = []
    values: list[memoryview] = []
    start = at = 0  # of what belongs to `rest`; of what is read
    while at < len(view):
        field = at
        key, at = _read_varint(view, at)
        at, size = _value(view, at, key & 7)
        if key >> 3 == number and key & 7 == _BYTES:
            values.append(view[at : at + size])
            rest.append(view[start:field])
            start = at + size
        at += size
    return (b"".join([*rest, view[start:]]) if values else message), values


def head(number: int, size: int) -> bytes:
    """What stands before a bytes value of `size` bytes in field `number`."""
    return _varint(number << 3 | _BYTES) + _varint(size)


def _value(view: memoryview, at: int, kind: int) -> tuple[int, int]:
    """Where a field's value starts, and how many bytes it has."""
    if kind == _VARINT:
        size = _read_varint(view, at)[1] - at
    elif kind == _BYTES:
        size, at = _read_varint(view, at)
    elif kind in (_EIGHT, _FOUR):
        size = 8 if kind == _EIGHT else 4
    else:
        raise CallerError("the request is not a protobuf message of the Open Inference Protocol")
    if size > len(view) - at:
        raise CallerError("the protobuf message ends too early; send the whole message")
    return at, size


def _read_varint(view: memoryview, at: int) -> tuple[int, int]:
    """A varint, and where what follows starts."""
    value = 0
    for index, byte in enumerate(view[at : at + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, at + index + 1
    raise CallerError("the protobuf message ends too early; send the whole message")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
