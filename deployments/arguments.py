"""What a caller by handle may give, checked: there is no wire format in between that could refuse it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast, get_args

import numpy as np

from headrace.errors import CallerError
from headrace.requests import LOWEST_PRIORITY, Asked, CacheMode, InferRequest
from headrace.tensors import Array


@dataclass(frozen=True, slots=True)
class Headers:
    """Which headers (gRPC: metadata) say who asks; None: none does."""

    tenant: str | None = None
    caller: str | None = None

    @property
    def names(self) -> frozenset[str]:
        return frozenset(filter(None, (self.tenant, self.caller)))

    def stamp(self, request: InferRequest, told: Mapping[str, Any]) -> InferRequest:
        """The request with what the headers say of its sender."""
        tenant = str(told.get(self.tenant, "")) if self.tenant else ""
        caller = str(told.get(self.caller, "")) if self.caller else ""
        return replace(request, tenant=tenant, caller=caller) if tenant or caller else request


def request_of(
    model: object,
    inputs: object,
    version: object,
    outputs: object,
    timeout_s: object,
    cache: object,
    tenant: object,
    priority: object,
    caller: object = "",
    request_id: object = "",
    asked: Asked | None = None,
) -> InferRequest:
    """The request that these arguments make; CallerError names the one that is wrong."""
    for name, value in (("model", model), ("tenant", tenant), ("caller", caller), ("id", request_id)):
        if not isinstance(value, str):
            raise CallerError(f"{name} must be a string; got {_shown(value)}")
    if version is not None and not isinstance(version, str):
        raise CallerError(f"version must be a string or None; got {_shown(version)}")
    if cache not in get_args(CacheMode):
        raise CallerError(f"cache must be one of {', '.join(get_args(CacheMode))}; got {_shown(cache)}")
    return InferRequest(
        str(model),
        _arrays(inputs),
        version=version,
        outputs=_names(outputs),
        timeout_s=_seconds(timeout_s),
        cache=cast(CacheMode, cache),
        tenant=str(tenant),
        priority=_priority(priority),
        caller=str(caller),
        id=str(request_id),
        asked=asked,
    )


def _arrays(inputs: object) -> dict[str, Array]:
    if not isinstance(inputs, Mapping):
        raise CallerError(f"inputs must map names to arrays; got {_shown(inputs)}")
    return {_name(name): _array(name, value) for name, value in inputs.items()}


def _name(name: object) -> str:
    if not isinstance(name, str):
        raise CallerError(f"the names of inputs must be strings; got {_shown(name)}")
    return name


def _array(name: object, value: object) -> Array:
    if not isinstance(value, np.ndarray):
        raise CallerError(f"input {name!r} must be a numpy array; got {_shown(value)}")
    if isinstance(value, np.ma.MaskedArray):
        raise CallerError(f"input {name!r} is a masked array; fill it first")
    return _text(name, value) if value.dtype.kind in "SUTO" else value


def _text(name: object, array: Array) -> Array:
    """Text as BYTES elements, which nothing cuts to a width."""
    found = np.empty(array.size, object)
    for number, item in enumerate(array.flat):
        if not isinstance(item, bytes | str):
            raise CallerError(f"input {name!r} holds {_shown(item)}; a text tensor holds bytes or str")
        try:
            found[number] = item if isinstance(item, bytes) else item.encode()
        except UnicodeEncodeError as err:
            raise CallerError(f"input {name!r} holds text that UTF-8 cannot write") from err
    return found.reshape(array.shape)


def _names(outputs: object) -> tuple[str, ...]:
    if outputs is None:
        return ()
    if isinstance(outputs, str) or not isinstance(outputs, Iterable):
        raise CallerError(f"outputs must be a list of names; got {_shown(outputs)}")
    names: tuple[Any, ...] = tuple(outputs)
    for name in names:
        if not isinstance(name, str):
            raise CallerError(f"outputs must be a list of names; it holds {_shown(name)}")
    return names


def _seconds(value: object) -> float | None:
    if value is None:
        return None
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not 0 <= number <= 1e9:
        raise CallerError(f"timeout_s must be a number of seconds from 0 (none) to 1e9; got {_shown(value)}")
    return float(number)


def _priority(value: object) -> int:
    number = value if isinstance(value, int) and not isinstance(value, bool) else -1
    if not 0 <= number <= LOWEST_PRIORITY:
        raise CallerError(
            f"priority must be 0 (the default level) or 1 (first) to {LOWEST_PRIORITY} (last); "
            f"got {_shown(value)}"
        )
    return number


def _shown(value: object) -> str:
    text = repr(value) if isinstance(value, str | int | float | bool | None) else "one"
    return f"{text[:60]} ({type(value).__name__})"
