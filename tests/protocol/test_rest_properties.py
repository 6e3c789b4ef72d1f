"""Whatever arrives, `decode` answers with a request or a CallerError, and what it returns can be encoded."""

import json
import string

import numpy as np
import tritonclient.http as triton
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.config import LimitsConfig
from headrace.errors import CallerError
from headrace.requests import InferResponse
from headrace.tensors import DTYPES
from protocol import rest
from protocol.limits import Limits

LIMITS = Limits.from_config(LimitsConfig())


def _valid_body():
    text = np.array([[b"", b"a"], [b"\xff\0", b"[{"]], dtype=object)
    inputs = [
        triton.InferInput("t", [2, 2], "BYTES").set_data_from_numpy(text),
        triton.InferInput("i", [2, 3], "INT64").set_data_from_numpy(np.arange(6).reshape(2, 3)),
        triton.InferInput("f", [2], "FP16").set_data_from_numpy(np.array([1.5, 3], "f2"), binary_data=False),
    ]
    return triton.InferenceServerClient.generate_request_body(
        inputs, [triton.InferRequestedOutput("y")], request_id="a", timeout=5, parameters={"p": 1.5}
    )


VALID, VALID_LENGTH = _valid_body()


def _returns_or_refuses(body, headers):
    try:
        request, reply = rest.decode("m", None, headers, body, LIMITS)
    except CallerError:
        return
    headers, parts = rest.encode(
        InferResponse("m", "1", request.inputs), rest.Reply(binary_default=True, id=reply.id)
    )
    assert int(headers["content-length"]) == sum(map(len, parts))


@settings(max_examples=300, deadline=None)
@given(body=st.binary(max_size=60), length=st.none() | st.integers(0, 60).map(str) | st.text(max_size=6))
def test_any_bytes_are_decoded_or_refused(body, length):
    _returns_or_refuses(body, {} if length is None else {"inference-header-content-length": length})


@settings(max_examples=1500, deadline=None)
@given(st.randoms(use_true_random=True), st.booleans())
def test_a_mutated_body_is_decoded_or_refused(chance, is_length_kept):
    body, length = bytearray(VALID), VALID_LENGTH
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(body) + 1)
        before = len(body)
        match chance.randrange(5):
            case 0:
                body[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                body[at:at] = chance.choice([b"[", b"}", b"NaN", b'"', b"-", b"1e9", b"\\", b"null", b","])
            case 2:
                del body[at : at + chance.randrange(1, 9)]
            case 3:
                digits = [i for i, byte in enumerate(body[:length]) if chr(byte) in string.digits]
                body[chance.choice(digits or [0])] = chance.choice(b"0123456789")
            case 4:
                del body[len(body) - chance.randrange(1, 9) :]
        if at < length and not is_length_kept:
            length += len(body) - before
    _returns_or_refuses(bytes(body), {"inference-header-content-length": str(length)})


_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.integers()
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from([*DTYPES, "use", "x"])
)
_VALUES = st.recursive(_SCALARS, lambda inner: st.lists(inner, max_size=4), max_leaves=8)
_PARAMETERS = st.dictionaries(
    st.sampled_from(
        ["binary_data", "binary_data_size", "binary_data_output", "timeout", "cache", "priority", "p"]
    ),
    _VALUES,
    max_size=3,
)
_TENSORS = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from("abcd") | _VALUES},
        optional={
            "datatype": st.sampled_from([*DTYPES]) | _VALUES,
            "shape": st.lists(st.integers(0, 3), max_size=3) | _VALUES,
            "data": st.lists(st.integers(0, 200) | st.floats(), max_size=4) | _VALUES,
            "parameters": _PARAMETERS | _VALUES,
        },
    )
    | _VALUES,
    max_size=3,
)
_DOCUMENTS = st.fixed_dictionaries(
    {"inputs": _TENSORS | _VALUES},
    optional={"outputs": _TENSORS | _VALUES, "id": _VALUES, "parameters": _PARAMETERS | _VALUES},
)


@settings(max_examples=600, deadline=None)
@given(_DOCUMENTS)
def test_any_json_document_is_decoded_or_refused(document):
    _returns_or_refuses(json.dumps(document).encode(), {})


def _places(node, at=()):
    """The keys that lead to each part of a document."""
    if at:
        yield at
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield from _places(value, (*at, key))


_PLACES = sorted(_places(json.loads(VALID[:VALID_LENGTH])), key=repr)


@settings(max_examples=800, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(_PLACES), _VALUES), min_size=1, max_size=2), st.integers(-1, 1))
def test_a_valid_request_with_parts_replaced_is_decoded_or_refused(changes, spare):
    document = json.loads(VALID[:VALID_LENGTH])
    for (*way, last), value in changes:
        holder = document
        try:
            for key in way:
                holder = holder[key]
            holder[last] = value
        except (IndexError, KeyError, TypeError):
            continue  # the change before it took this place away
    head = json.dumps(document).encode()
    tail = (VALID[VALID_LENGTH:] + b"\0")[: len(VALID) - VALID_LENGTH + spare]
    _returns_or_refuses(head + tail, {"inference-header-content-length": str(len(head))})
