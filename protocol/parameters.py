"""Parameters of a request, checked the same whichever way they came."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast, get_args

from headrace.errors import CallerError
from headrace.requests import LOWEST_PRIORITY, CacheMode, Scalar
from protocol.documents import optional
from protocol.limits import shown

_LONGEST_TIMEOUT = 1 << 53  # microseconds, 285 years: exact as a float
_SEQUENCE = ("sequence_id", "sequence_start", "sequence_end")
_MODES = get_args(CacheMode)
_OWN = frozenset({*_SEQUENCE, "binary_data_output", "timeout", "cache", "priority"})


@dataclass(frozen=True, slots=True)
class Options:
    """What a request's parameters say; `rest` are those that the model may see."""

    timeout_s: float | None
    priority: int
    cache: CacheMode
    rest: Mapping[str, Scalar]


def options(parameters: dict[str, Any]) -> Options:
    """The parameters of a request; CallerError names the one that is wrong."""
    for key in _SEQUENCE:
        if parameters.get(key) not in (None, 0, ""):
            raise CallerError(f"parameter '{key}' is {shown(parameters[key])}; sequences are not supported")
    return Options(_timeout_s(parameters), _priority(parameters), _cache(parameters), _rest(parameters))


def _rest(parameters: dict[str, Any]) -> dict[str, Scalar]:
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


def _priority(parameters: dict[str, Any]) -> int:
    priority = optional(parameters, "priority", int, "parameters") or 0
    if not 0 <= priority <= LOWEST_PRIORITY:
        raise CallerError(
            f"parameter 'priority' is {shown(priority)}; it must be 0 (the default level) or "
            f"1 (first) to {LOWEST_PRIORITY} (last)"
        )
    return priority


def _cache(parameters: dict[str, Any]) -> CacheMode:
    mode = parameters.get("cache")
    if mode is None:
        return "use"
    if mode not in _MODES:
        raise CallerError(f"parameter 'cache' is {shown(mode)}; allowed: {', '.join(map(repr, _MODES))}")
    return cast(CacheMode, mode)
