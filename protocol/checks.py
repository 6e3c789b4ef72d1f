"""What every tensor of a request must keep to, whichever way it came."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from headrace.errors import CallerError, TensorRejected, TooLarge
from protocol.documents import optional
from protocol.limits import Limits, shown


def check_counts(num_inputs: int, num_outputs: int, limits: Limits) -> None:
    """TooLarge when a request names more inputs or outputs than are allowed."""
    if num_inputs > limits.tensors:
        raise TooLarge(f"the request has {num_inputs} inputs; at most {limits.tensors} are allowed")
    if num_outputs > limits.tensors:
        raise TooLarge(f"the request asks for {num_outputs} outputs; at most {limits.tensors} are allowed")


def check_name(name: str, known: Container[str], kind: str, where: str) -> str:
    """How messages call this tensor; TensorRejected when its name is empty or was there before."""
    if not name:
        raise TensorRejected(f"{where} has an empty 'name'; give the name of the tensor")
    if name in known:
        again = "is given" if kind == "input" else "is asked for"
        raise TensorRejected(f"{kind} {shown(name)} {again} twice; each name may occur once")
    return f"{kind} {shown(name)}"


def check_rank(shape: list[int], where: str, limits: Limits) -> None:
    if len(shape) > limits.rank:
        raise TensorRejected(f"{where} has {len(shape)} dimensions; at most {limits.rank} are allowed")


def check_input(parameters: Mapping[str, Any], where: str) -> None:
    """CallerError for a tensor that lies in shared memory."""
    for key in parameters:
        if key.startswith("shared_memory_"):
            raise CallerError(f"{where}: {shown(key)} is not supported; send the tensor in the request")


def check_output(parameters: dict[str, Any], where: str) -> None:
    """CallerError for an output that is wanted in shared memory or as classes."""
    check_input(parameters, where)
    if optional(parameters, "classification", int, where):
        raise CallerError(f"{where}: 'classification' is not supported; take the scores and sort them")
