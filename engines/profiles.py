"""Optimization profiles: the ranges of shapes that a TensorRT plan is built for, and the one for a batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from headrace.errors import ConfigRejected, TensorRejected
from headrace.tensors import Signature, TensorSpec

Sizes = Mapping[str, int]  # of variable dimensions
Shape = tuple[int, ...]
BATCH = "batch"
_MOST = 4  # profiles made of a limit alone: each takes time to build and memory to run
_SHORTEST = 16


@dataclass(frozen=True, slots=True)
class Profile:
    """One range: the smallest sizes of the variable dimensions, the usual ones, which the plan is fastest
    for, and the largest."""

    smallest: Sizes
    usual: Sizes
    largest: Sizes

    def holds(self, sizes: Sizes) -> bool:
        return all(self.smallest[dim] <= size <= self.largest[dim] for dim, size in sizes.items())

    def shapes(self, spec: TensorSpec) -> tuple[Shape, Shape, Shape]:
        """Of a tensor at these three sizes."""
        return tuple(shape_of(spec, sizes) for sizes in (self.smallest, self.usual, self.largest))  # type: ignore[return-value]

    def in_words(self) -> str:
        parts = [
            f"{dim} {size}" if self.smallest[dim] == size else f"{dim} {self.smallest[dim]} to {size}"
            for dim, size in self.largest.items()
        ]
        return " and ".join(parts) or "one shape alone"


def make_profiles(signature: Signature, max_batch: int, buckets: Sequence[Sizes] = ()) -> tuple[Profile, ...]:
    """One profile for each bucket, which holds what the ones before it do not, from the smallest on.

    Without buckets they are halves of the largest size, as long as one dimension varies; where the batch
    alone does, one is for single rows. ConfigRejected names a dimension of which nothing tells how large it
    may be.
    """
    dims = _variable(signature)
    if dims == [BATCH] and max_batch > 1:
        one, two, most = ({BATCH: rows} for rows in (1, 2, max_batch))
        return Profile(one, one, one), Profile(two, most, most)
    free = [dim for dim in dims if dim != BATCH]
    tops = [dict(bucket) for bucket in buckets] or _halves(signature, free)
    distinct = {tuple(sorted(top.items())): top for top in tops}.values()
    found: list[Profile] = []
    for top in sorted(distinct, key=lambda top: math.prod(top.values())):
        largest = {dim: max_batch if dim == BATCH else _largest(signature, top, dim) for dim in dims}
        smallest = dict.fromkeys(dims, 1)
        if len(free) == 1 and found:
            (dim,) = free
            smallest[dim] = found[-1].largest[dim] + 1
        found.append(Profile(smallest, largest, largest))
    return tuple(found)


def choose(profiles: Sequence[Profile], sizes: Sizes) -> int:
    """The number of the first profile that holds these sizes; TensorRejected names the nearest one."""
    for number, profile in enumerate(profiles):
        if profile.holds(sizes):
            return number
    nearest = min(profiles, key=lambda profile: _distance(profile, sizes))
    asked = " and ".join(f"{dim} {size}" for dim, size in sizes.items())
    raise TensorRejected(f"no profile holds {asked}; the nearest one takes {nearest.in_words()}")


def sizes_of(specs: Sequence[TensorSpec], shapes: Mapping[str, Shape]) -> dict[str, int]:
    """Of the variable dimensions, in tensors of these shapes."""
    return {
        dim: size
        for spec in specs
        for dim, size in zip(spec.shape, shapes[spec.name], strict=True)
        if isinstance(dim, str)
    }


def largest_of(shapes: Sequence[Shape]) -> Shape:
    """That holds each of these."""
    return tuple(max(sizes) for sizes in zip(*shapes, strict=True))


def shape_of(spec: TensorSpec, sizes: Sizes) -> Shape:
    """A tensor's, where its variable dimensions are of these sizes."""
    return tuple(dim if isinstance(dim, int) else sizes[dim] for dim in spec.shape)


def _variable(signature: Signature) -> list[str]:
    return list(dict.fromkeys(dim for spec in signature.inputs for dim in spec.shape if isinstance(dim, str)))


def _halves(signature: Signature, free: Sequence[str]) -> list[dict[str, int]]:
    top = {dim: _largest(signature, {}, dim) for dim in free}
    if len(free) != 1:
        return [top]
    ((dim, size),) = top.items()
    sizes = [size]
    while len(sizes) < _MOST and sizes[-1] // 2 >= _SHORTEST:
        sizes.append(sizes[-1] // 2)
    return [{dim: size} for size in sizes]


def _largest(signature: Signature, top: Sizes, dim: str) -> int:
    size = top.get(dim, signature.limits.get(dim))
    if size is None:
        raise ConfigRejected(
            f"dimension {dim!r} has no largest size, and a plan needs one: publish the model with a limit "
            f"for it, or give buckets that name it"
        )
    return size


def _distance(profile: Profile, sizes: Sizes) -> float:
    """How far the sizes are out of its range: the sum of the factors' logarithms."""
    return sum(
        abs(math.log(max(size, 1) / min(max(size, profile.smallest[dim], 1), profile.largest[dim])))
        for dim, size in sizes.items()
    )
