import json

import numpy as np
import orjson
import pytest
import tritonclient.http as triton

from headrace.config import LimitsConfig
from headrace.errors import CallerError, DeadlinePassed, NotFound, TensorRejected, TooLarge
from headrace.requests import InferResponse, Timings
from headrace.tensors import DTYPES, Signature, TensorSpec
from protocol import rest
from protocol.limits import Limits
from tests.example_tensors import example

LIMITS = Limits.from_config(LimitsConfig())
SHAPES = [(1,), (0,), (0, 4), (2, 3)]
WAYS = [(dtype, binary) for dtype in sorted(DTYPES) for binary in (True, False) if binary or dtype != "BF16"]


def _input(name, array, dtype, binary):
    tensor = triton.InferInput(name, list(array.shape), dtype)
    return tensor.set_data_from_numpy(array, binary_data=binary)


def _decode(body, header_length=None, limits=LIMITS):
    headers = {} if header_length is None else {"inference-header-content-length": str(header_length)}
    return rest.decode("m", "3", headers, body, limits)


def _ask(limits=LIMITS, **document):
    return _decode(orjson.dumps(document), limits=limits)


def _json_input(**changes):
    entry = {"name": "x", "datatype": "FP32", "shape": [2], "data": [1, 2.5], **changes}
    return {key: value for key, value in entry.items() if value is not ...}


def _answer(response, reply):
    headers, parts = rest.encode(response, reply)
    body = b"".join(parts)
    assert headers["content-length"] == str(len(body))
    length = headers.get("inference-header-content-length")
    return triton.InferenceServerClient.parse_response_body(body, header_length=length)


def _same(left, right):
    assert left.shape == right.shape
    assert left.dtype == right.dtype
    if left.dtype == object:
        assert left.tolist() == right.tolist()
    else:
        assert left.tobytes() == right.tobytes()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "binary"), WAYS)
def test_tritons_client_and_we_mean_the_same_tensor(dtype, shape, binary):
    array = example(dtype, shape)
    other = np.arange(3, dtype=np.int64)
    body, length = triton.InferenceServerClient.generate_request_body(
        [_input("x", array, dtype, binary), _input("y", other, "INT64", True)],
        outputs=[triton.InferRequestedOutput("x", binary_data=binary), triton.InferRequestedOutput("y")],
        request_id="7",
    )
    request, reply = _decode(body, length)
    _same(request.inputs["x"], array)
    _same(request.inputs["y"], other)
    assert (request.model, request.version, request.id) == ("m", "3", "7")
    assert request.outputs == ("x", "y")
    assert reply == rest.Reply(binary={"x": binary, "y": True}, binary_default=False, id="7")

    result = _answer(InferResponse("m", "3", {"x": array, "y": other}), reply)
    theirs = result.as_numpy("x")
    if dtype == "BYTES":  # the client gives text for JSON
        texts = [item if isinstance(item, bytes) else item.encode() for item in theirs.reshape(-1).tolist()]
        assert (theirs.shape, texts) == (array.shape, array.reshape(-1).tolist())
    else:
        _same(theirs, array)
    _same(result.as_numpy("y"), other)
    document = result.get_response()
    assert (document["model_name"], document["model_version"], document["id"]) == ("m", "3", "7")
    assert "parameters" not in document


@pytest.mark.parametrize("dtype", ["FP16", "FP32", "FP64"])
@pytest.mark.parametrize("binary", [True, False])
def test_nan_and_infinity_travel_in_floating_tensors(dtype, binary):
    array = np.array([np.nan, np.inf, -np.inf, 0.1], dtype=DTYPES[dtype])
    body, length = triton.InferenceServerClient.generate_request_body([_input("x", array, dtype, binary)])
    request, _ = _decode(body, length)
    np.testing.assert_array_equal(request.inputs["x"], array)
    _, parts = rest.encode(InferResponse("m", "1", {"x": array, "n": np.arange(2)}), rest.Reply())
    answer = json.loads(b"".join(parts))["outputs"]
    np.testing.assert_array_equal(np.array(answer[0]["data"], dtype=array.dtype), array)
    assert answer[1]["data"] == [0, 1]


@pytest.mark.parametrize(
    "document",
    [
        '{"inputs": [{"name": "x", "datatype": "INT32", "shape": [1], "data": [NaN]}]}',
        '{"inputs": [{"name": "x", "datatype": "BOOL", "shape": [1], "data": [-Infinity]}]}',
        '{"inputs": [{"name": "x", "datatype": "FP32", "shape": [NaN], "data": [1]}]}',
        '{"inputs": [], "parameters": {"p": Infinity}}',
        '{"inputs": [], "parameters": {"timeout": NaN}}',
        '{"inputs": [{"name": "x", "datatype": "FP64", "shape": [2], "data": [NaN, 1e999]}]}',
        '{"inputs": [{"name": "x", "datatype": "FP64", "shape": [1], "data": [nan]}], "id": "NaN"}',
        '{"inputs": [], "id": "\\ud800", "parameters": {"NaN": 1}}',
        '{"inputs": [], "x": NaN, "id": "\\ud800"}',
    ],
)
def test_nan_is_refused_where_no_floating_tensor_is(document):
    with pytest.raises(CallerError):
        _decode(document.encode())


def test_without_outputs_the_client_gets_all_of_them_in_binary():
    array = np.arange(4, dtype=np.float32)
    body, length = triton.InferenceServerClient.generate_request_body([_input("x", array, "FP32", True)])
    request, reply = _decode(body, length)
    assert request.outputs == ()
    assert reply.binary_default
    result = _answer(InferResponse("m", "1", {"a": array, "b": array[:0]}), reply)
    _same(result.as_numpy("a"), array)
    _same(result.as_numpy("b"), array[:0])
    assert "id" not in result.get_response()


def test_the_parameters_of_the_protocol_are_taken_and_the_others_passed_on():
    body, length = triton.InferenceServerClient.generate_request_body(
        [],
        priority=2,
        timeout=1_500_000,
        parameters={"cache": "bypass", "top": 3, "who": "me", "deep": False},
    )
    request, _ = _decode(body, length)
    assert (request.timeout_s, request.priority) == (1.5, 2)
    assert request.cache == "bypass"
    assert request.parameters == {"top": 3, "who": "me", "deep": False}


def test_absent_null_and_zero_are_the_defaults():
    own = {"timeout": 0, "sequence_id": 0, "sequence_start": False, "priority": None}
    request, reply = _ask(inputs=[_json_input(parameters=None)], outputs=None, id=None, parameters=own)
    assert (request.timeout_s, request.cache, request.id, request.parameters) == (None, "use", "", {})
    assert reply == rest.Reply()
    assert _ask(inputs=[])[0].inputs == {}


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"shape": [2**62, 4]}, "elements are allowed"),
        ({"shape": [-2]}, "0 or more"),
        ({"shape": [2.0]}, "must be an integer"),
        ({"shape": [1] * 16 + [2]}, "17 dimensions; at most 16"),
        ({"shape": ...}, "has no 'shape'; it must be a list"),
        ({"datatype": ...}, "has no 'datatype'"),
        ({"datatype": "BF16"}, "BF16, which JSON does not carry; send it with binary_data_size"),
        ({"datatype": "float"}, "'float', which is not supported; allowed: BOOL"),
        ({"name": ...}, "has no 'name'"),
        ({"name": ""}, "empty 'name'"),
        ({"data": ...}, "has neither of 'data'"),
        ({"parameters": {"binary_data_size": 0}}, "has both of 'data'"),
    ],
)
def test_a_wrong_tensor_is_refused_with_what_was_wrong(entry, words):
    with pytest.raises(TensorRejected, match=words):
        _ask(inputs=[_json_input(**entry)])


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({}, "has no 'inputs'"),
        ({"inputs": {}}, "'inputs' must be a list; got {}"),
        ({"inputs": [3]}, r"inputs\[0\] must be an object"),
        ({"inputs": [_json_input(name=5)]}, "'name' must be a string; got 5"),
        ({"inputs": [_json_input(datatype=5)]}, "'datatype' must be a string"),
        ({"inputs": [_json_input(shape="2")]}, "'shape' must be a list"),
        ({"inputs": [_json_input(data="ab")]}, "'data' must be a list"),
        ({"inputs": [_json_input(parameters=[])]}, "'parameters' must be an object"),
        ({"inputs": [_json_input(), _json_input()]}, "'x' is given twice"),
        (
            {"inputs": [_json_input(parameters={"shared_memory_region": "r"})]},
            "send the tensor in the request",
        ),
        ({"inputs": [], "id": 5}, "'id' must be a string; got 5"),
        ({"inputs": [], "outputs": [{}]}, r"outputs\[0\] has no 'name'"),
        ({"inputs": [], "outputs": ["y"]}, r"outputs\[0\] must be an object"),
        ({"inputs": [], "outputs": [{"name": "y"}, {"name": "y"}]}, "'y' is asked for twice"),
        ({"inputs": [], "outputs": [{"name": "y", "parameters": {"classification": 3}}]}, "'classification'"),
        (
            {"inputs": [], "outputs": [{"name": "y", "parameters": {"binary_data": 1}}]},
            "true or false; got 1",
        ),
        (
            {"inputs": [], "outputs": [{"name": "y", "parameters": {"shared_memory_region": "r"}}]},
            "'shared_memory_region' is not supported",
        ),
        ({"inputs": [], "parameters": []}, "'parameters' must be an object"),
        ({"inputs": [], "parameters": {"timeout": -1}}, "'timeout' is -1; it must be 0 to"),
        ({"inputs": [], "parameters": {"timeout": 1.5}}, "'timeout' must be an integer"),
        ({"inputs": [], "parameters": {"timeout": True}}, "'timeout' must be an integer"),
        ({"inputs": [], "parameters": {"timeout": 2**63}}, "'timeout' is 9223372036854775808"),
        ({"inputs": [], "parameters": {"cache": "never"}}, "allowed: 'use', 'bypass', 'refresh', 'only'"),
        ({"inputs": [], "parameters": {"cache": []}}, "allowed: 'use', 'bypass', 'refresh', 'only'"),
        ({"inputs": [], "parameters": {"priority": "high"}}, "'priority' must be an integer"),
        ({"inputs": [], "parameters": {"priority": -1}}, "'priority' is -1; it must be 0"),
        ({"inputs": [], "parameters": {"priority": 2**31}}, "1 .first. to 2147483647 .last."),
        ({"inputs": [], "parameters": {"binary_data_output": 1}}, "'binary_data_output' must be true or"),
        ({"inputs": [], "parameters": {"sequence_id": 4}}, "sequences are not supported"),
        ({"inputs": [], "parameters": {"sequence_end": True}}, "sequences are not supported"),
        ({"inputs": [], "parameters": {"p": [1]}}, "'p' is .1.; it must be a string"),
        ({"inputs": [], "parameters": {"p": None}}, "'p' is None"),
    ],
)
def test_a_wrong_request_is_refused_with_what_was_wrong(document, words):
    with pytest.raises(CallerError, match=words) as caught:
        _ask(**document)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b"{", b"\xff{}", b'{"inputs": []} x', b"\xef\xbb\xbf{}"]
)
def test_a_body_that_is_no_json_object_is_refused(body):
    with pytest.raises(CallerError, match="the request"):
        _decode(body)


@pytest.mark.parametrize("length", ["", "x", "-1", "+1", "1.0", "1_0", "10", "9" * 5000, "\u0663", "0x1"])
def test_a_header_length_outside_the_body_is_refused(length):
    with pytest.raises(CallerError, match="Inference-Header-Content-Length"):
        rest.decode("m", None, {"inference-header-content-length": length}, b"{}" * 2, LIMITS)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ([8], "8 bytes of binary data belong to no input"),
        ([8, 9], "binary_data_size 9; 8 bytes are left"),
        ([-1, 8], "binary_data_size -1"),
        ([True, 8], "must be an integer; got True"),
        ([4, 12], "has 4 bytes; FP32 of shape .2. needs 8"),
        ([2**70, 8], "must be an integer"),
    ],
)
def test_the_binary_sizes_add_up_to_the_bytes_that_follow(sizes, words):
    entries = [
        _json_input(name=f"x{i}", data=..., parameters={"binary_data_size": size})
        for i, size in enumerate(sizes)
    ]
    head = json.dumps({"inputs": entries}).encode()
    with pytest.raises(CallerError, match=words):
        _decode(head + bytes(16), len(head))


def test_binary_data_without_the_header_says_which_header_is_missing():
    with pytest.raises(TensorRejected, match="Inference-Header-Content-Length"):
        _ask(inputs=[_json_input(data=..., parameters={"binary_data_size": 8})])


def test_limits_of_size_answer_413():
    few = Limits(body_bytes=200, json_depth=32, tensors=2, rank=4)
    with pytest.raises(TooLarge, match="201 bytes; at most 200"):
        _decode(b" " * 201, limits=few)
    with pytest.raises(TooLarge, match="3 inputs; at most 2"):
        _ask(limits=few, inputs=[1, 2, 3])
    with pytest.raises(TooLarge, match="3 outputs; at most 2"):
        _ask(limits=few, inputs=[], outputs=[1, 2, 3])


def test_deep_nesting_is_refused_before_parsing():
    with pytest.raises(CallerError, match="32 levels"):
        _decode(b'{"inputs":[{"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}]}")


def test_the_answer_says_which_tier_it_came_from():
    array = np.zeros((1, 2), np.float32)
    response = InferResponse("m", "2", {"y": array}, timings=Timings(tier="redis"))
    headers, parts = rest.encode(response, rest.Reply())
    assert headers["content-type"] == "application/json"
    assert "inference-header-content-length" not in headers
    assert orjson.loads(b"".join(parts)) == {
        "model_name": "m",
        "model_version": "2",
        "parameters": {"cache": "redis"},
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [0.0, 0.0]}],
    }


def test_bytes_that_are_no_text_must_be_asked_for_in_binary():
    response = InferResponse("m", "1", {"y": np.array([b"\xff"], dtype=object)})
    with pytest.raises(CallerError, match=r"'y' holds bytes that are not UTF-8.*binary_data"):
        rest.encode(response, rest.Reply())
    assert _answer(response, rest.Reply(binary={"y": True})).as_numpy("y").tolist() == [b"\xff"]


def test_arrays_of_any_layout_are_written_row_by_row():
    array = np.arange(6, dtype=">f4").reshape(2, 3).T
    for reply in (rest.Reply(), rest.Reply(binary_default=True)):
        result = _answer(InferResponse("m", "1", {"y": array}), reply)
        _same(result.as_numpy("y"), np.ascontiguousarray(array, dtype=np.float32))


def test_an_error_is_one_string_of_at_most_1000_characters():
    assert orjson.loads(rest.encode_error(NotFound("no model 'x'"))) == {"error": "no model 'x'"}
    assert orjson.loads(rest.encode_error(DeadlinePassed())) == {"error": "deadline"}
    assert len(orjson.loads(rest.encode_error(NotFound("\ud800" * 5000)))["error"]) == 1000


def test_metadata_names_tensors_and_gives_variable_dimensions_as_minus_one():
    signature = Signature(
        inputs=(TensorSpec("ids", "INT64", ("batch", "length"), low=0, high=99),),
        outputs=(TensorSpec("logits", "FP32", ("batch", 2)),),
        limits={"length": 512},
    )
    ids = {"dims": ["batch", "length"], "low": 0, "high": 99}
    logits = {"dims": ["batch", 2]}
    assert orjson.loads(rest.model_metadata("m", ["1", "2"], "onnxruntime", signature)) == {
        "name": "m",
        "versions": ["1", "2"],
        "platform": "onnxruntime",
        "inputs": [{"name": "ids", "datatype": "INT64", "shape": [-1, -1], "parameters": ids}],
        "outputs": [{"name": "logits", "datatype": "FP32", "shape": [-1, 2], "parameters": logits}],
        "parameters": {"limits": {"length": 512}},
    }
    server = orjson.loads(rest.server_metadata("headrace", "0.1.0"))
    assert server == {"name": "headrace", "version": "0.1.0", "extensions": ["binary_tensor_data"]}
    assert orjson.loads(rest.health()) == {"live": True, "ready": True}
