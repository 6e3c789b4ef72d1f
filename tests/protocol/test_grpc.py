"""Messages of Triton's own client become requests, and our answers are what it reads."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from grpc import StatusCode
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2
from tritonclient.grpc._utils import _get_inference_request

from headrace import errors
from headrace.config import LimitsConfig
from headrace.errors import CallerError, TensorRejected, TooLarge
from headrace.requests import InferRequest, InferResponse, Timings
from headrace.tensors import DTYPES, Array, Signature, TensorSpec
from protocol import grpc as oip
from protocol.limits import Limits
from tests.example_tensors import any_bits, same_bits

LIMITS = Limits.from_config(LimitsConfig())
X = np.arange(6, dtype=np.float32).reshape(2, 3)


def message(arrays: dict[str, tuple[str, Array]], **changes: Any) -> Any:
    """What tritonclient sends for these inputs."""
    inputs = []
    for name, (dtype, array) in arrays.items():
        tensor = triton.InferInput(name, list(array.shape), dtype)
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    given = {"model_name": "m", "model_version": "", "request_id": "", "outputs": None, "sequence_id": 0,
             "sequence_start": False, "sequence_end": False, "priority": 0, "timeout": None,
             "parameters": None, **changes}  # fmt: skip
    return _get_inference_request(inputs=inputs, **given)


def decode(document: Any, **changes: Any) -> InferRequest:
    return oip.decode(document.SerializeToString(), LIMITS, **changes)


@pytest.mark.parametrize("dtype", sorted(DTYPES))
@pytest.mark.parametrize("shape", [(), (1,), (0, 4), (2, 3)])
def test_tritons_client_and_we_mean_the_same_tensor(dtype: str, shape: tuple[int, ...]) -> None:
    array = any_bits(dtype, shape)
    found = decode(message({"x": (dtype, array), "y": ("FP32", X)})).inputs
    assert list(found) == ["x", "y"]
    assert same_bits(found["x"], array)
    parts = oip.encode(InferResponse("m", "3", {"x": array, "y": X}, "7"))
    answer = service_pb2.ModelInferResponse.FromString(b"".join(parts))
    assert (answer.model_name, answer.model_version, answer.id) == ("m", "3", "7")
    assert same_bits(triton.InferResult(answer).as_numpy("x"), array)
    assert np.array_equal(triton.InferResult(answer).as_numpy("y"), X)


def test_raw_tensors_are_views_of_the_message() -> None:
    whole = message({"x": ("FP32", X)}).SerializeToString()
    array = oip.decode(whole, LIMITS).inputs["x"]
    assert np.shares_memory(array, np.frombuffer(whole, np.uint8))


def test_everything_but_tensors_is_read() -> None:
    document = message(
        {"x": ("FP32", X)},
        model_version="2",
        request_id="7",
        outputs=[triton.InferRequestedOutput("b"), triton.InferRequestedOutput("a")],
        priority=3,
        timeout=1_500_000,
        parameters={"cache": "bypass", "text": "t", "flag": True, "number": 0.5, "count": 4},
    )
    request = decode(document, remaining_s=9.0)
    assert (request.model, request.version, request.id) == ("m", "2", "7")
    assert request.outputs == ("b", "a")
    assert (request.priority, request.timeout_s, request.cache) == (3, 1.5, "bypass")
    assert request.parameters == {"text": "t", "flag": True, "number": 0.5, "count": 4}


def test_without_a_timeout_the_calls_deadline_counts() -> None:
    plain = message({"x": ("FP32", X)})
    assert decode(plain).timeout_s is None
    assert decode(plain, remaining_s=2.5).timeout_s == 2.5
    assert decode(message({"x": ("FP32", X)}, timeout=0), remaining_s=2.5).timeout_s == 2.5


def test_an_answer_tells_its_tier() -> None:
    parts = oip.encode(InferResponse("m", "1", {"y": X}, timings=Timings(tier="redis")))
    answer = service_pb2.ModelInferResponse.FromString(b"".join(parts))
    assert answer.parameters["cache"].string_param == "redis"


def changed(change: str) -> Any:
    document = message({"x": ("FP32", X)})
    tensor = document.inputs[0]
    match change:
        case "two raw":
            document.raw_input_contents.append(b"")
        case "raw and typed":
            tensor.contents.fp32_contents.extend([1.0])
        case "short raw":
            document.raw_input_contents[0] = b"abc"
        case "negative":
            tensor.shape[0] = -2
        case "huge":
            tensor.shape[:] = [2**40, 2**40]
        case "rank":
            tensor.shape[:] = [1] * 17
        case "no name":
            tensor.name = ""
        case "twice":
            document.inputs.append(tensor)
            document.raw_input_contents.append(document.raw_input_contents[0])
        case "many":
            document.inputs.extend([tensor] * 64)
        case "datatype":
            tensor.datatype = "float"
        case "shared memory":
            tensor.parameters["shared_memory_region"].string_param = "r"
        case "classes":
            document.outputs.add(name="y").parameters["classification"].int64_param = 3
        case "output twice":
            document.outputs.add(name="y")
            document.outputs.add(name="y")
        case "sequence":
            document.parameters["sequence_id"].int64_param = 5
        case "priority":
            document.parameters["priority"].uint64_param = 2**31
        case "timeout":
            document.parameters["timeout"].int64_param = -1
        case "timeout text":
            document.parameters["timeout"].string_param = "1"
        case "empty parameter":
            document.parameters["p"].SetInParent()
        case "cache":
            document.parameters["cache"].bool_param = True
    return document


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ("two raw", TensorRejected, "1 inputs and 2 raw_input_contents; give one for each"),
        ("raw and typed", TensorRejected, "has contents beside raw_input_contents"),
        ("short raw", TensorRejected, "has 3 bytes; FP32 of shape"),
        ("negative", TensorRejected, "must be an integer, 0 or more"),
        ("huge", TensorRejected, "elements are allowed"),
        ("rank", TensorRejected, "17 dimensions; at most 16"),
        ("no name", TensorRejected, "empty 'name'"),
        ("twice", TensorRejected, "is given twice"),
        ("many", TooLarge, "65 inputs; at most 64"),
        ("datatype", TensorRejected, "'float', which is not supported; allowed: BOOL"),
        ("shared memory", CallerError, "send the tensor in the request"),
        ("classes", CallerError, "'classification' is not supported"),
        ("output twice", TensorRejected, "is asked for twice"),
        ("sequence", CallerError, "sequences are not supported"),
        ("priority", CallerError, "1 .first. to 2147483647 .last."),
        ("timeout", CallerError, "'timeout' is -1; it must be 0 to"),
        ("timeout text", CallerError, "'timeout' must be an integer"),
        ("empty parameter", CallerError, "parameter 'p' is None"),
        ("cache", CallerError, "allowed: 'use', 'bypass', 'refresh', 'only'"),
    ],
)
def test_a_wrong_request_is_refused_with_what_was_wrong(
    change: str, kind: type[CallerError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        decode(changed(change))


def test_a_message_over_the_limit_is_refused_with_the_limit() -> None:
    small = Limits(body_bytes=20, json_depth=4, tensors=4, rank=4)
    with pytest.raises(TooLarge, match="bytes; at most 20 are allowed"):
        oip.decode(message({"x": ("FP32", X)}).SerializeToString(), small)


@settings(max_examples=300)
@given(noise=st.binary(max_size=80), at=st.integers(0, 80))
def test_any_bytes_are_a_request_or_the_callers_mistake(noise: bytes, at: int) -> None:
    whole = message({"x": ("FP32", X)}).SerializeToString()
    for damaged in (noise, whole[:at], whole[:at] + noise + whole[at:], whole[:at] + noise):
        with contextlib.suppress(CallerError):
            oip.decode(damaged, LIMITS)
        with contextlib.suppress(CallerError):
            oip.decode_model(damaged)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.CallerError, StatusCode.INVALID_ARGUMENT),
        (errors.TensorRejected, StatusCode.INVALID_ARGUMENT),
        (errors.NotFound, StatusCode.NOT_FOUND),
        (errors.TooLarge, StatusCode.RESOURCE_EXHAUSTED),
        (errors.Overloaded, StatusCode.RESOURCE_EXHAUSTED),
        (errors.EngineUnavailable, StatusCode.UNAVAILABLE),
        (errors.DeadlinePassed, StatusCode.DEADLINE_EXCEEDED),
        (errors.EngineFailed, StatusCode.INTERNAL),
        (errors.HeadraceError, StatusCode.INTERNAL),
    ],
)
def test_each_error_has_its_status(kind: type[errors.HeadraceError], code: StatusCode) -> None:
    assert oip.status_code(kind("x")) is code


def test_metadata_is_what_tritons_client_reads() -> None:
    signature = Signature((TensorSpec("x", "BF16", ("batch", 3)),), (TensorSpec("y", "BYTES", ()),))
    found = service_pb2.ModelMetadataResponse.FromString(
        oip.model_metadata("m", ["1", "2"], "onnxruntime", signature)
    )
    assert (found.name, list(found.versions), found.platform) == ("m", ["1", "2"], "onnxruntime")
    assert [(t.name, t.datatype, list(t.shape)) for t in (*found.inputs, *found.outputs)] == [
        ("x", "BF16", [-1, 3]),
        ("y", "BYTES", []),
    ]
    server = service_pb2.ServerMetadataResponse.FromString(oip.server_metadata("headrace", "1"))
    assert (server.name, server.version, list(server.extensions)) == ("headrace", "1", ["binary_tensor_data"])
    asked = service_pb2.ModelReadyRequest(name="m", version="")
    assert oip.decode_model(asked.SerializeToString()) == ("m", None)
