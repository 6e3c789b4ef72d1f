"""The Open Inference Protocol over REST: bodies <-> requests and responses, nothing sent or read here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import orjson

from headrace.errors import CallerError, HeadraceError, TensorRejected, TooLarge
from headrace.requests import InferRequest, InferResponse, Tier
from headrace.tensors import Array, Signature, TensorMap, TensorSpec, dtype_name
from protocol import documents
from protocol.checks import check_counts, check_input, check_name, check_output, check_rank
from protocol.documents import optional, required
from protocol.limits import Limits, error_text, shown
from protocol.parameters import Options, options
from protocol.tensors_binary import from_raw, to_raw
from protocol.tensors_json import from_json, to_json

EXTENSIONS = ("binary_tensor_data",)  # of the protocol, by their official names
HEADER_LENGTH = "inference-header-content-length"  # bytes of JSON before the binary tensors
_KEPT_BYTES = 4096  # of the JSON before binary tensors, to be remembered: what is longer names many tensors


@dataclass(frozen=True, slots=True)
class Reply:
    """How the caller wants the answer: `binary` by output name, `binary_default` for the others."""

    binary: Mapping[str, bool] = field(default_factory=dict)
    binary_default: bool = False
    id: str = ""


class _Input(NamedTuple):
    """An input as the JSON part declares it: with its values, or with how many bytes they are."""

    name: str
    where: str  # how messages call it
    datatype: str
    shape: list[int]
    data: list[Any] | None
    size: int | None


class _Head(NamedTuple):
    """All that the JSON part of a request says."""

    inputs: tuple[_Input, ...]
    outputs: tuple[str, ...]
    options: Options
    reply: Reply


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
    if split < len(body) and split <= _KEPT_BYTES:
        head = _kept_head(body[:split], limits)
    else:
        head = _head(view[:split], limits)
    request = InferRequest(
        model=model,
        inputs=_tensors(head.inputs, view[split:]),
        version=version,
        outputs=head.outputs,
        id=head.reply.id,
        parameters=head.options.rest,
        timeout_s=head.options.timeout_s,
        cache=head.options.cache,
        priority=head.options.priority,
    )
    return request, head.reply


def encode(response: InferResponse, reply: Reply) -> tuple[dict[str, str], list[bytes | memoryview]]:
    """Headers (lower-case names) and the parts of the body, in order; views keep the outputs alive.

    An output with NaN or infinity makes the JSON part use the bare words NaN, Infinity and -Infinity,
    as Triton does and Python reads: strict JSON has only null, which clients take for something else.
    """
    is_binary = [reply.binary.get(name, reply.binary_default) for name in response.outputs]
    tails = [to_raw(array) for array, flag in zip(response.outputs.values(), is_binary, strict=True) if flag]
    about = (response.model, response.version, reply.id, response.timings.tier)
    if all(is_binary):
        described = tuple(
            (name, dtype_name(array), array.shape, len(tail))
            for (name, array), tail in zip(response.outputs.items(), tails, strict=True)
        )
        head = _binary_head(*about, described)
    else:
        head = _mixed_head(*about, response.outputs, is_binary, map(len, tails))
    headers = {
        "content-type": "application/octet-stream" if tails else "application/json",
        "content-length": str(len(head) + sum(map(len, tails))),
    }
    if tails:
        headers[HEADER_LENGTH] = str(len(head))
    return headers, [head, *(tail for tail in tails if len(tail))]


@lru_cache(maxsize=512)  # answers of one shape differ in their binary data only
def _binary_head(
    model: str, version: str, id_: str, tier: Tier, outputs: tuple[tuple[str, str, tuple[int, ...], int], ...]
) -> bytes:
    told = [
        {"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": size}}
        for name, datatype, shape, size in outputs
    ]
    return orjson.dumps(_document(model, version, id_, tier, told))


def _mixed_head(
    model: str,
    version: str,
    id_: str,
    tier: Tier,
    outputs: TensorMap,
    is_binary: Sequence[bool],
    sizes: Iterator[int],
) -> bytes:
    told: list[dict[str, Any]] = []
    is_finite = True
    for (name, array), binary in zip(outputs.items(), is_binary, strict=True):
        output: dict[str, Any] = {"name": name, "datatype": dtype_name(array), "shape": list(array.shape)}
        if binary:
            output["parameters"] = {"binary_data_size": next(sizes)}
        else:
            data = output["data"] = to_json(name, array)
            is_finite = is_finite and (isinstance(data, list) or bool(np.isfinite(data).all()))
        told.append(output)
    document = _document(model, version, id_, tier, told)
    if is_finite:
        return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    return documents.dump_bare(document)


def _document(
    model: str, version: str, id_: str, tier: Tier, outputs: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    document: dict[str, Any] = {"model_name": model, "model_version": version}
    if id_:
        document["id"] = id_
    if tier != "off":
        document["parameters"] = {"cache": tier}
    document["outputs"] = outputs
    return document


def encode_error(err: HeadraceError) -> bytes:
    """The body of an error answer; its status is `err.status`."""
    return orjson.dumps({"error": error_text(err)})


def health() -> bytes:
    """The body of the live and ready paths; the `kserve` client reads one key from each.

    A gateway that can answer at all has its models loaded: Serve sends it nothing before.
    """
    return orjson.dumps({"live": True, "ready": True})


def server_metadata(name: str, version: str) -> bytes:
    return orjson.dumps({"name": name, "version": version, "extensions": EXTENSIONS})


def model_metadata(name: str, versions: Sequence[str], platform: str, signature: Signature) -> bytes:
    """A model's name, versions, inputs and outputs; a variable dimension is -1. What the protocol has no word
    for is told as `parameters`: names and limits of dimensions, bounds of integers."""
    return orjson.dumps(
        {
            "name": name,
            "versions": list(versions),
            "platform": platform,
            "inputs": [_describe(spec) for spec in signature.inputs],
            "outputs": [_describe(spec) for spec in signature.outputs],
            "parameters": {"limits": dict(signature.limits)},
        }
    )


def _describe(spec: TensorSpec) -> dict[str, Any]:
    bounds = {"low": spec.low, "high": spec.high}
    parameters = {"dims": spec.shape} | {key: value for key, value in bounds.items() if value is not None}
    return {
        "name": spec.name,
        "datatype": spec.dtype,
        "shape": spec.wire_shape,
        "parameters": parameters,
    }


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


def _head(raw: bytes | memoryview, limits: Limits) -> _Head:
    document = documents.parse(memoryview(raw), limits.json_depth)
    inputs = _decode_inputs(document, limits)
    binary = _decode_outputs(document, limits)
    parameters = optional(document, "parameters", dict, "the request") or {}
    reply = Reply(
        binary={name: flag for name, flag in binary.items() if flag is not None},
        binary_default=optional(parameters, "binary_data_output", bool, "parameters") or False,
        id=optional(document, "id", str, "the request") or "",
    )
    return _Head(inputs, tuple(binary), options(parameters), reply)


# Before binary tensors the same JSON comes again and again: with shapes that are alike it is alike.
_kept_head = lru_cache(maxsize=512)(_head)


def _decode_inputs(document: dict[str, Any], limits: Limits) -> tuple[_Input, ...]:
    entries = optional(document, "inputs", list, "the request")
    if entries is None:
        raise CallerError("the request has no 'inputs'; it must be a list of tensors")
    check_counts(len(entries), 0, limits)
    inputs: dict[str, _Input] = {}
    for index, entry in enumerate(entries):
        name = _tensor_name(entry, f"inputs[{index}]")
        where = check_name(name, inputs, "input", f"inputs[{index}]")
        inputs[name] = _decode_input(name, where, entry, limits)
    return tuple(inputs.values())


def _decode_input(name: str, where: str, entry: dict[str, Any], limits: Limits) -> _Input:
    datatype = required(entry, "datatype", str, where)
    shape = required(entry, "shape", list, where)
    check_rank(shape, where, limits)
    parameters = optional(entry, "parameters", dict, where) or {}
    check_input(parameters, where)
    data = optional(entry, "data", list, where)
    size = optional(parameters, "binary_data_size", int, f"{where}: parameters")
    if (data is None) == (size is None):
        got = "neither" if data is None else "both"
        raise TensorRejected(
            f"{where} has {got} of 'data' and parameter 'binary_data_size'; give exactly one"
        )
    return _Input(name, where, datatype, shape, data, size)


def _tensors(inputs: Sequence[_Input], binary: memoryview) -> dict[str, Array]:
    """The inputs' values, those without any of their own cut from the binary data, which they must use up."""
    tensors: dict[str, Array] = {}
    at = 0
    for name, where, datatype, shape, data, size in inputs:
        if data is not None:
            tensors[name] = from_json(name, datatype, shape, data)
            continue
        assert size is not None
        if not 0 <= size <= len(binary) - at:
            raise TensorRejected(
                f"{where} has binary_data_size {size}; {len(binary) - at} bytes are left after the JSON and "
                "the inputs before it (the header Inference-Header-Content-Length says where the JSON ends)"
            )
        tensors[name] = from_raw(name, datatype, shape, binary[at : at + size])
        at += size
    if at != len(binary):
        raise CallerError(
            f"{len(binary) - at} bytes of binary data belong to no input; the sum of all binary_data_size "
            f"is {at}, and {len(binary)} bytes follow the JSON"
        )
    return tensors


def _decode_outputs(document: dict[str, Any], limits: Limits) -> dict[str, bool | None]:
    """The requested outputs in order, each with its `binary_data` flag when it has one."""
    entries = optional(document, "outputs", list, "the request") or []
    check_counts(0, len(entries), limits)
    outputs: dict[str, bool | None] = {}
    for index, entry in enumerate(entries):
        name = _tensor_name(entry, f"outputs[{index}]")
        where = check_name(name, outputs, "output", f"outputs[{index}]")
        parameters = optional(entry, "parameters", dict, where) or {}
        check_output(parameters, where)
        outputs[name] = optional(parameters, "binary_data", bool, where)
    return outputs


def _tensor_name(entry: object, where: str) -> str:
    if not isinstance(entry, dict):
        raise CallerError(f"{where} must be an object with 'name'; got {shown(entry)}")
    return required(entry, "name", str, where)
