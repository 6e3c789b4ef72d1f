"""The Open Inference Protocol over REST: bodies <-> requests and responses, nothing sent or read here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from headrace.errors import CallerError, HeadraceError, TensorRejected, TooLarge
from headrace.requests import InferRequest, InferResponse, Scalar
from headrace.tensors import Array, Signature, TensorSpec, dtype_name
from protocol import documents
from protocol.documents import optional, required
from protocol.limits import Limits, shown
from protocol.tensors_binary import from_raw, to_raw
from protocol.tensors_json import from_json, to_json

HEADER_LENGTH = "inference-header-content-length"  # bytes of JSON before the binary tensors
_LONGEST_ERROR = 1000  # characters
_LONGEST_TIMEOUT = 1 << 53  # microseconds, 285 years: exact as a float
_SEQUENCE = ("sequence_id", "sequence_start", "sequence_end")
_OWN = frozenset({*_SEQUENCE, "binary_data_output", "timeout", "cache", "priority"})


@dataclass(frozen=True, slots=True)
class Reply:
    """How the caller wants the answer: `binary` by output name, `binary_default` for the others."""

    binary: Mapping[str, bool] = field(default_factory=dict)
    binary_default: bool = False
    id: str = ""


def decode(
    model: str, version: str | None, headers: Mapping[str, str], body: bytes, limits: Limits
) -> tuple[InferRequest, Reply]:
    """The request in an uncompressed body, and how it is to be answered.

    Header names are lower-case. Binary tensors are read-only views of `body`. Unknown keys are
    ignored, null stands for an absent optional value. Every mistake is a CallerError.
    """
    if len(body) > limits.body_bytes:
        raise TooLarge(f"the body has {len(body)} bytes; at most {limits.body_bytes} are allowed")
    view = memoryview(body)
    split = _json_length(headers.get(HEADER_LENGTH), len(body))
    document = documents.parse(view[:split], limits.json_depth)
    inputs = _decode_inputs(document, view[split:], limits)
    binary = _decode_outputs(document, limits)
    parameters = optional(document, "parameters", dict, "the request") or {}
    reply = Reply(
        binary={name: flag for name, flag in binary.items() if flag is not None},
        binary_default=optional(parameters, "binary_data_output", bool, "parameters") or False,
        id=optional(document, "id", str, "the request") or "",
    )
    request = InferRequest(
        model=model,
        inputs=inputs,
        version=version,
        outputs=tuple(binary),
        id=reply.id,
        parameters=_decode_parameters(parameters),
        timeout_s=_timeout_s(parameters),
        cache="bypass" if _is_bypassed(parameters) else "use",
    )
    return request, reply


def encode(response: InferResponse, reply: Reply) -> tuple[dict[str, str], list[bytes | memoryview]]:
    """Headers (lower-case names) and the parts of the body, in order; views keep the outputs alive.

    An output with NaN or infinity makes the JSON part use the bare words NaN, Infinity and -Infinity,
    as Triton does and Python reads: strict JSON has only null, which clients take for something else.
    """
    outputs: list[dict[str, Any]] = []
    tails: list[bytes | memoryview] = []
    is_finite = True
    for name, array in response.outputs.items():
        output: dict[str, Any] = {"name": name, "datatype": dtype_name(array), "shape": list(array.shape)}
        if reply.binary.get(name, reply.binary_default):
            raw = to_raw(array)
            output["parameters"] = {"binary_data_size": len(raw)}
            tails.append(raw)
        else:
            data = output["data"] = to_json(name, array)
            is_finite = is_finite and (isinstance(data, list) or bool(np.isfinite(data).all()))
        outputs.append(output)
    document: dict[str, Any] = {"model_name": response.model, "model_version": response.version}
    if reply.id:
        document["id"] = reply.id
    if response.timings.tier != "off":
        document["parameters"] = {"cache": response.timings.tier}
    document["outputs"] = outputs
    head = (
        orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
        if is_finite
        else documents.dump_bare(document)
    )
    headers = {
        "content-type": "application/octet-stream" if tails else "application/json",
        "content-length": str(len(head) + sum(map(len, tails))),
    }
    if tails:
        headers[HEADER_LENGTH] = str(len(head))
    return headers, [head, *(tail for tail in tails if len(tail))]


def encode_error(err: HeadraceError) -> bytes:
    """The body of an error answer; its status is `err.status`."""
    message = (str(err) or err.kind)[:_LONGEST_ERROR]
    return orjson.dumps({"error": message.encode("utf-8", "replace").decode()})


def health() -> bytes:
    """The body of the live and ready paths; the `kserve` client reads one key from each.

    A gateway that can answer at all has its models loaded: Serve sends it nothing before.
    """
    return orjson.dumps({"live": True, "ready": True})


def server_metadata(name: str, version: str) -> bytes:
    return orjson.dumps({"name": name, "version": version, "extensions": ["binary_tensor_data"]})


def model_metadata(name: str, versions: Sequence[str], platform: str, signature: Signature) -> bytes:
    """A model's name, versions, inputs and outputs; a variable dimension is -1."""
    return orjson.dumps(
        {
            "name": name,
            "versions": list(versions),
            "platform": platform,
            "inputs": [_describe(spec) for spec in signature.inputs],
            "outputs": [_describe(spec) for spec in signature.outputs],
        }
    )


def _describe(spec: TensorSpec) -> dict[str, Any]:
    shape = [dim if isinstance(dim, int) else -1 for dim in spec.shape]
    return {"name": spec.name, "datatype": spec.dtype, "shape": shape}


def _json_length(value: str | None, total: int) -> int:
    """How many bytes of the body are JSON: all, unless the header says otherwise."""
    if value is None:
        return total
    digits = value.strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 18 and int(digits) <= total):
        raise CallerError(
            f"header Inference-Header-Content-Length is {shown(value)}; it must be the number of bytes "
            f"of JSON before the binary data, 0 to the body's {total}"
        )
    return int(digits)


def _decode_inputs(document: dict[str, Any], binary: memoryview, limits: Limits) -> dict[str, Array]:
    entries = optional(document, "inputs", list, "the request")
    if entries is None:
        raise CallerError("the request has no 'inputs'; it must be a list of tensors")
    if len(entries) > limits.tensors:
        raise TooLarge(f"the request has {len(entries)} inputs; at most {limits.tensors} are allowed")
    inputs: dict[str, Array] = {}
    at = 0
    for index, entry in enumerate(entries):
        name = _tensor_name(entry, f"inputs[{index}]")
        if name in inputs:
            raise TensorRejected(f"input {shown(name)} is given twice; each name may occur once")
        inputs[name], at = _decode_input(name, entry, binary, at, limits)
    if at != len(binary):
        raise CallerError(
            f"{len(binary) - at} bytes of binary data belong to no input; the sum of all binary_data_size "
            f"is {at}, and {len(binary)} bytes follow the JSON"
        )
    return inputs


def _decode_input(
    name: str, entry: dict[str, Any], binary: memoryview, at: int, limits: Limits
) -> tuple[Array, int]:
    """One input, and where the binary data of the next one starts."""
    where = f"input {shown(name)}"
    datatype = required(entry, "datatype", str, where)
    shape = required(entry, "shape", list, where)
    if len(shape) > limits.rank:
        raise TensorRejected(f"{where} has {len(shape)} dimensions; at most {limits.rank} are allowed")
    parameters = _tensor_parameters(entry, where)
    data = optional(entry, "data", list, where)
    size = optional(parameters, "binary_data_size", int, f"{where}: parameters")
    if (data is None) == (size is None):
        got = "neither" if data is None else "both"
        raise TensorRejected(
            f"{where} has {got} of 'data' and parameter 'binary_data_size'; give exactly one"
        )
    if data is not None:
        return from_json(name, datatype, shape, data), at
    assert size is not None
    if not 0 <= size <= len(binary) - at:
        raise TensorRejected(
            f"{where} has binary_data_size {size}; {len(binary) - at} bytes are left after the JSON and the "
            "inputs before it (the header Inference-Header-Content-Length says where the JSON ends)"
        )
    return from_raw(name, datatype, shape, binary[at : at + size]), at + size


def _decode_outputs(document: dict[str, Any], limits: Limits) -> dict[str, bool | None]:
    """The requested outputs in order, each with its `binary_data` flag when it has one."""
    entries = optional(document, "outputs", list, "the request") or []
    if len(entries) > limits.tensors:
        raise TooLarge(f"the request asks for {len(entries)} outputs; at most {limits.tensors} are allowed")
    outputs: dict[str, bool | None] = {}
    for index, entry in enumerate(entries):
        name = _tensor_name(entry, f"outputs[{index}]")
        where = f"output {shown(name)}"
        if name in outputs:
            raise CallerError(f"{where} is asked for twice; each name may occur once")
        parameters = _tensor_parameters(entry, where)
        if optional(parameters, "classification", int, where):
            raise CallerError(f"{where}: 'classification' is not supported; take the scores and sort them")
        outputs[name] = optional(parameters, "binary_data", bool, where)
    return outputs


def _decode_parameters(parameters: dict[str, Any]) -> dict[str, Scalar]:
    """The parameters that the model may see; those of the protocol itself are checked and left out."""
    for key in _SEQUENCE:
        if parameters.get(key) not in (None, 0, ""):
            raise CallerError(f"parameter '{key}' is {shown(parameters[key])}; sequences are not supported")
    optional(
        parameters, "priority", int, "parameters"
    )  # accepted from Triton's clients; all are served alike
    rest: dict[str, Scalar] = {}
    for key, value in parameters.items():
        if key in _OWN:
            continue
        if type(value) not in (str, int, float, bool) or (type(value) is float and not math.isfinite(value)):
            raise CallerError(
                f"parameter {shown(key)} is {shown(value)}; it must be a string, a finite number or a boolean"
            )
        rest[key] = value
    return rest


def _timeout_s(parameters: dict[str, Any]) -> float | None:
    """The caller's timeout; on the wire it is in microseconds, and 0 is none."""
    timeout_us = optional(parameters, "timeout", int, "parameters") or 0
    if not 0 <= timeout_us <= _LONGEST_TIMEOUT:
        raise CallerError(
            f"parameter 'timeout' is {shown(timeout_us)}; it must be 0 to {_LONGEST_TIMEOUT} microseconds"
        )
    return timeout_us / 1e6 or None


def _is_bypassed(parameters: dict[str, Any]) -> bool:
    mode = parameters.get("cache")
    if mode not in (None, "use", "bypass"):
        raise CallerError(f"parameter 'cache' is {shown(mode)}; allowed: 'use', 'bypass'")
    return bool(mode == "bypass")


def _tensor_name(entry: object, where: str) -> str:
    if not isinstance(entry, dict):
        raise CallerError(f"{where} must be an object with 'name'; got {shown(entry)}")
    name = required(entry, "name", str, where)
    if not name:
        raise TensorRejected(f"{where} has an empty 'name'; give the name of the tensor")
    return name


def _tensor_parameters(entry: dict[str, Any], where: str) -> dict[str, Any]:
    parameters = optional(entry, "parameters", dict, where) or {}
    for key in parameters:
        if key.startswith("shared_memory_"):
            raise CallerError(f"{where}: {shown(key)} is not supported; send the tensor in the body")
    return parameters
