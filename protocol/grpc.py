"""The Open Inference Protocol over gRPC: messages <-> requests and responses, nothing sent or read here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.message import DecodeError
from grpc import StatusCode

from headrace.errors import CallerError, HeadraceError, TensorRejected, TooLarge
from headrace.requests import InferRequest, InferResponse
from headrace.tensors import Array, Signature, TensorSpec, dtype_name
from protocol import messages, wire
from protocol.checks import check_counts, check_input, check_name, check_output, check_rank
from protocol.limits import Limits
from protocol.parameters import options
from protocol.rest import EXTENSIONS
from protocol.tensors_binary import from_raw, to_raw
from protocol.tensors_contents import from_contents

Parts = list[bytes | memoryview]  # of a message, in order

_RAW_INPUTS = messages.ModelInferRequest.DESCRIPTOR.fields_by_name["raw_input_contents"].number
_RAW_OUTPUTS = messages.ModelInferResponse.DESCRIPTOR.fields_by_name["raw_output_contents"].number
_CODES = {  # by HTTP status; every other 4xx is the caller's mistake, too
    404: StatusCode.NOT_FOUND,
    413: StatusCode.RESOURCE_EXHAUSTED,
    429: StatusCode.RESOURCE_EXHAUSTED,
    503: StatusCode.UNAVAILABLE,
    504: StatusCode.DEADLINE_EXCEEDED,
}


def decode(message: bytes, limits: Limits, remaining_s: float | None = None) -> InferRequest:
    """The request in a serialized ModelInferRequest.

    Raw contents become read-only views of `message`, nothing is copied. `remaining_s` is what is left of
    the call's deadline: the request's timeout when it names none. Every mistake is a CallerError.
    """
    if len(message) > limits.body_bytes:
        raise TooLarge(f"the message has {len(message)} bytes; at most {limits.body_bytes} are allowed")
    head, raws = wire.split(message, _RAW_INPUTS)
    document = _parse(messages.ModelInferRequest, head)
    check_counts(len(document.inputs), len(document.outputs), limits)
    given = options(_parameters(document.parameters))
    return InferRequest(
        model=document.model_name,
        inputs=_inputs(document.inputs, raws, limits),
        version=document.model_version or None,
        outputs=_outputs(document.outputs),
        id=document.id,
        parameters=given.rest,
        timeout_s=remaining_s if given.timeout_s is None else given.timeout_s,
        cache=given.cache,
        priority=given.priority,
    )


def encode(response: InferResponse) -> Parts:
    """A ModelInferResponse, every output raw; views keep the outputs alive."""
    document = messages.ModelInferResponse(
        model_name=response.model, model_version=response.version, id=response.id
    )
    if response.timings.tier != "off":
        document.parameters["cache"].string_param = response.timings.tier
    tails: Parts = []
    for name, array in response.outputs.items():
        document.outputs.add(name=name, datatype=dtype_name(array), shape=array.shape)
        raw = to_raw(array)
        tails += [wire.head(_RAW_OUTPUTS, len(raw)), raw]
    return [_written(document), *tails]


def decode_model(message: bytes) -> tuple[str, str | None]:
    """The model's name and the version in a ModelReadyRequest or ModelMetadataRequest, which look alike."""
    document = _parse(messages.ModelMetadataRequest, message)
    return document.name, document.version or None


def server_metadata(name: str, version: str) -> bytes:
    document = messages.ServerMetadataResponse(name=name, version=version, extensions=EXTENSIONS)
    return _written(document)


def model_metadata(name: str, versions: Sequence[str], platform: str, signature: Signature) -> bytes:
    """A model's name, versions, inputs and outputs; a variable dimension is -1."""
    document = messages.ModelMetadataResponse(name=name, versions=versions, platform=platform)
    _describe(document.inputs, signature.inputs)
    _describe(document.outputs, signature.outputs)
    return _written(document)


def is_live() -> bytes:
    return _written(messages.ServerLiveResponse(live=True))


def is_ready() -> bytes:
    """A gateway that can answer at all has its models loaded: Serve sends it nothing before."""
    return _written(messages.ServerReadyResponse(ready=True))


def is_model_ready() -> bytes:
    return _written(messages.ModelReadyResponse(ready=True))


def status_code(err: HeadraceError) -> StatusCode:
    """The gRPC status that means what the error's HTTP status means."""
    fallback = StatusCode.INVALID_ARGUMENT if 400 <= err.status < 500 else StatusCode.INTERNAL
    return _CODES.get(err.status, fallback)


def _parse(kind: Any, message: bytes) -> Any:
    try:
        return kind.FromString(message)
    except DecodeError as err:
        raise CallerError(f"the request is not a valid {kind.DESCRIPTOR.name} message") from err


def _written(document: Any) -> bytes:
    content: bytes = document.SerializeToString()
    return content


def _parameters(parameters: Any) -> dict[str, Any]:
    """Parameters as plain values; one without a value is None."""
    return {key: _plain(value) for key, value in parameters.items()}


def _plain(parameter: Any) -> Any:
    choice = parameter.WhichOneof("parameter_choice")
    return None if choice is None else getattr(parameter, choice)


def _inputs(tensors: Any, raws: list[memoryview], limits: Limits) -> dict[str, Array]:
    if raws and len(raws) != len(tensors):
        raise TensorRejected(
            f"the request has {len(tensors)} inputs and {len(raws)} raw_input_contents; give one for each "
            "input in the same order, or contents in every input"
        )
    inputs: dict[str, Array] = {}
    for index, tensor in enumerate(tensors):
        where = check_name(tensor.name, inputs, "input", f"inputs[{index}]")
        check_input(_parameters(tensor.parameters), where)
        shape = list(tensor.shape)
        check_rank(shape, where, limits)
        if not raws:
            inputs[tensor.name] = from_contents(where, tensor.datatype, shape, tensor.contents)
        elif tensor.HasField("contents"):
            raise TensorRejected(f"{where} has contents beside raw_input_contents; give only one of them")
        else:
            inputs[tensor.name] = from_raw(tensor.name, tensor.datatype, shape, raws[index])
    return inputs


def _outputs(tensors: Any) -> tuple[str, ...]:
    outputs: dict[str, None] = {}
    for index, tensor in enumerate(tensors):
        where = check_name(tensor.name, outputs, "output", f"outputs[{index}]")
        check_output(_parameters(tensor.parameters), where)
        outputs[tensor.name] = None
    return tuple(outputs)


def _describe(tensors: Any, specs: Sequence[TensorSpec]) -> None:
    for spec in specs:
        tensors.add(name=spec.name, datatype=spec.dtype, shape=spec.wire_shape)
