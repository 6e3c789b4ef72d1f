"""Requests for a load: made from what a server says that its model takes, or read from a file."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deployments.load import infer_request
from headrace.errors import ConfigRejected, EngineFailed, HeadraceError
from headrace.tensors import DTYPES, FLOATS, Array, Dim, TensorMap, TensorSpec

USUAL_SIZE = 16  # of a variable dimension of which nothing is said
_DRAWS = 4096  # sizes drawn beforehand
_DISTINCT = 1 << 20  # requests, before the numbers are drawn anew
_STRIDE = 7919  # elements from one request's to the next's; odd, so that it meets every place
_TOKENS = 127  # the largest of an integer without bounds, which may be the index of something
_WORDS = ("water", "channel", "wheel", "gate", "stream", "mill", "weir", "turbine")
_SIZE = re.compile(r"([0-9]+)(?::([0-9.]+))?")


@dataclass(frozen=True, slots=True)
class Takes:
    """What a model takes; `limits` is the largest size of each variable dimension that has one."""

    inputs: tuple[TensorSpec, ...]
    limits: Mapping[str, int]

    @property
    def dims(self) -> list[str]:
        """The variable dimensions but the rows."""
        named = (dim for spec in self.inputs for dim in spec.shape if isinstance(dim, str))
        return [dim for dim in dict.fromkeys(named) if dim != "batch"]


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of one variable dimension, each with the share of requests that have it."""

    values: tuple[int, ...]
    shares: tuple[float, ...]


def takes(metadata: Mapping[str, Any]) -> Takes:
    """What the answer to GET /v2/models/NAME says. Where a server does not name its variable dimensions, the
    first of all inputs is "batch" and the others are INPUT.AXIS. EngineFailed for what is no such answer."""
    try:
        entries = metadata["inputs"]
        has_rows = all(entry["shape"][:1] == [-1] for entry in entries)
        inputs = tuple(_spec(entry, has_rows) for entry in entries)
        limits = dict((metadata.get("parameters") or {}).get("limits") or {})
    except (KeyError, TypeError, ValueError, AttributeError, HeadraceError) as err:
        raise EngineFailed(f"what the server says of the model's inputs cannot be read: {err}") from err
    if not inputs:
        raise EngineFailed("the server names no inputs of the model; give requests by --inputs FILE")
    return Takes(inputs, limits)


def parse_sizes(texts: Sequence[str], known: Takes) -> dict[str, Sizes]:
    """length=16,32,64 or length=16:3,64:1 with weights, for each variable dimension; those that are not given
    get a usual size. ConfigRejected names the dimensions there are, and their limits."""
    found = {}
    for text in texts:
        dim, _, listed = text.partition("=")
        dim = dim.strip()
        if dim not in known.dims:
            there = ", ".join(known.dims) or "none"
            raise ConfigRejected(f"--size {text[:60]!r}: no such variable dimension; the model has: {there}")
        found[dim] = _listed(text, listed, known.limits.get(dim))
    for dim in known.dims:
        found.setdefault(dim, Sizes((min(USUAL_SIZE, known.limits.get(dim, USUAL_SIZE)),), (1.0,)))
    return found


@dataclass
class Requests:
    """Requests by their number, each made when it is asked for: number 3 is the same whenever and wherever.
    All differ, unless there are only `same` of them, or `given` ones, which come again and again."""

    host: str
    model: str
    version: str | None
    inputs: tuple[TensorSpec, ...]
    sizes: Mapping[str, Sizes]
    rows: int
    seed: int
    same: int = 0  # 0: no two are alike
    given: Sequence[TensorMap] = ()

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        self._draws = {
            dim: rng.choice(sizes.values, _DRAWS, p=sizes.shares).tolist()
            for dim, sizes in self.sizes.items()
        }
        self._epoch = -1
        self._pools: dict[str, Array] = {}

    def stream(self) -> Iterator[bytes]:
        """One after the other, without an end."""
        return map(self.made, itertools.count())

    def first(self, count: int) -> Sequence[bytes]:
        """So many of them; none is kept."""
        return _First(self, count)

    def made(self, number: int) -> bytes:
        """The bytes of a request."""
        return infer_request(self.host, self.model, self.tensors(number), self.version)

    def tensors(self, number: int) -> TensorMap:
        """The inputs of a request."""
        if self.same:
            number %= self.same
        if self.given:
            return self.given[number % len(self.given)]
        sizes = {dim: draws[number % _DRAWS] for dim, draws in self._draws.items()} | {"batch": self.rows}
        if number // _DISTINCT != self._epoch:
            self._epoch = number // _DISTINCT
            self._pools = {spec.name: self._pool(spec, place) for place, spec in enumerate(self.inputs)}
        return {spec.name: self._cut(spec, sizes, number) for spec in self.inputs}

    def _pool(self, spec: TensorSpec, place: int) -> Array:
        """Random numbers that the tensors of many requests are cut out of: drawing each anew would cost more
        than sending it."""
        rng = np.random.default_rng((self.seed, place, self._epoch))
        largest = {dim: max(sizes.values) for dim, sizes in self.sizes.items()} | {"batch": self.rows}
        return _random(rng, spec, _num_elements(spec, largest) + _DISTINCT)

    def _cut(self, spec: TensorSpec, sizes: Mapping[str, int], number: int) -> Array:
        shape = tuple(dim if isinstance(dim, int) else sizes[dim] for dim in spec.shape)
        if spec.dtype == "BYTES":
            return _text(shape, self.seed, number)
        start = number * _STRIDE % _DISTINCT
        return self._pools[spec.name][start : start + int(np.prod(shape, dtype=np.int64))].reshape(shape)


@dataclass(frozen=True, slots=True)
class _First(Sequence[bytes]):
    requests: Requests
    length: int

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: Any) -> Any:
        return self.requests.made(number)


def _spec(entry: Mapping[str, Any], has_rows: bool) -> TensorSpec:
    name, shape = str(entry["name"]), [int(size) for size in entry["shape"]]
    parameters = entry.get("parameters") or {}
    unnamed = ["batch" if has_rows and axis == 0 else f"{name}.{axis}" for axis in range(len(shape))]
    names = parameters.get("dims") or unnamed
    dims: list[Dim] = [size if size >= 0 else str(dim) for size, dim in zip(shape, names, strict=True)]
    low, high = parameters.get("low"), parameters.get("high")
    return TensorSpec(name, str(entry["datatype"]), tuple(dims), low, high)


def _listed(text: str, listed: str, limit: int | None) -> Sizes:
    values, weights = [], []
    for part in listed.split(","):
        match = _SIZE.fullmatch(part.strip())
        try:
            value, weight = int(match[1]) if match else 0, float(match[2] or 1) if match else 0.0
        except ValueError:
            value = 0
        if value < 1 or not weight > 0:
            raise ConfigRejected(f"--size {text[:60]!r} must look like length=16,32,64 or length=16:3,64:1")
        if limit is not None and value > limit:
            raise ConfigRejected(f"--size {text[:60]!r}: {value} is too large; the model takes up to {limit}")
        values.append(value)
        weights.append(weight)
    total = sum(weights)
    return Sizes(tuple(values), tuple(weight / total for weight in weights))


def _num_elements(spec: TensorSpec, sizes: Mapping[str, int]) -> int:
    shape = (dim if isinstance(dim, int) else sizes[dim] for dim in spec.shape)
    return int(np.prod(list(shape), dtype=np.int64))


def _random(rng: np.random.Generator, spec: TensorSpec, count: int) -> Array:
    dtype = DTYPES[spec.dtype]
    if spec.dtype == "BYTES":
        return np.empty(0, dtype)
    if spec.dtype in FLOATS:
        return rng.standard_normal(count, np.float32).astype(dtype)
    if spec.dtype == "BOOL":
        return rng.integers(0, 1, count, endpoint=True).astype(dtype)
    low = spec.low or 0
    high = spec.high if spec.high is not None else max(low, _TOKENS)
    if (low, high) == (0, 1):  # a mask: the whole input counts
        return np.ones(count, dtype)
    return rng.integers(low, high, count, endpoint=True).astype(dtype)


def _text(shape: tuple[int, ...], seed: int, number: int) -> Array:
    words = random.Random(f"{seed}/{number}")  # noqa: S311 - texts that differ, no secrets
    found = np.empty(shape, object)
    for place in range(found.size):
        found.flat[place] = f"{' '.join(words.choices(_WORDS, k=6))} {number}".encode()
    return found
