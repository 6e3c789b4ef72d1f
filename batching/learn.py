"""Buckets out of the sizes that requests were seen to have: those with the least padded work (pure)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from itertools import combinations

import numpy as np

from batching.shapes import Sizes
from headrace.tensors import Array

Seen = tuple[Sizes, int]  # sizes of variable dimensions, and how many rows had them
Cost = Callable[[Sizes], float]  # the work of a row that is padded to these sizes
_CELLS = 256  # of several dimensions, that buckets are merged from


def volume(sizes: Sizes) -> float:
    return float(math.prod(sizes.values()))


def learn_buckets(seen: Sequence[Seen], number: int, cost: Cost = volume) -> list[dict[str, int]]:
    """At most `number` buckets that hold everything seen, the cheapest first.

    Each request is padded to the cheapest bucket that holds it. `cost` does not fall when a size grows.
    In one dimension the buckets are the best there are (dynamic programming over the distinct sizes).
    In several they are good ones: cells, at first one for each distinct size, are merged two at a time,
    always those two whose merging adds the least work; then requests move to the cheapest bucket and
    buckets shrink to what they hold, until nothing gains. Of very many distinct sizes, cells come from
    levels of each dimension, found as in one dimension.
    """
    if number < 1:
        raise ValueError("at least one bucket is needed")
    seen = [(sizes, count) for sizes, count in seen if count > 0]
    if not seen:
        return []
    dims = list(seen[0][0])
    if len(dims) == 1:
        found = _levels(dims[0], seen, number, cost)
    else:
        found = _settled(_merged(_cells(dims, seen, cost), number, cost), seen, cost)
    return sorted(found, key=lambda sizes: (cost(sizes), *sizes.values()))


def padded_work(seen: Sequence[Seen], buckets: Sequence[Sizes], cost: Cost = volume) -> float:
    """The work of everything seen, each padded to the cheapest bucket that holds it; infinite when none
    holds one."""
    held = sorted((cost(bucket), bucket) for bucket in map(_Bucket, buckets))
    return sum(
        count * next((price for price, bucket in held if bucket.holds(sizes)), math.inf)
        for sizes, count in seen
    )


class _Bucket(dict[str, int]):
    """Sizes that can be asked whether they hold others; equal costs are told apart by nothing."""

    def holds(self, sizes: Sizes) -> bool:
        return all(size <= self[dim] for dim, size in sizes.items())

    def __lt__(self, other: object) -> bool:
        return False


def _levels(dim: str, seen: Sequence[Seen], number: int, cost: Cost) -> list[dict[str, int]]:
    """The best buckets in one dimension.

    least[j] is the least work of the j smallest distinct sizes in so many buckets: the last bucket
    reaches down to some i, and those below it are in one bucket less.
    """
    counts: dict[int, int] = {}
    for sizes, count in seen:
        counts[sizes[dim]] = counts.get(sizes[dim], 0) + count
    levels = sorted(counts)
    upto = np.cumsum([0.0, *(counts[level] for level in levels)])
    prices = np.array([cost({dim: level}) for level in levels])
    least = np.full(len(levels) + 1, math.inf)
    least[0] = 0.0
    cuts: list[Array] = []
    for _ in range(min(number, len(levels))):
        better = np.full_like(least, math.inf)
        cut = np.zeros(len(least), np.int64)
        for end in range(1, len(least)):
            work = least[:end] + prices[end - 1] * (upto[end] - upto[:end])
            cut[end] = int(np.argmin(work))
            better[end] = work[cut[end]]
        cuts.append(cut)
        least = better
        least[0] = 0.0  # fewer buckets will do, too
    found: list[dict[str, int]] = []
    end = len(levels)
    while end and cuts:
        found.append({dim: levels[end - 1]})
        end = int(cuts.pop()[end])
    return found


def _cells(dims: Sequence[str], seen: Sequence[Seen], cost: Cost) -> list[Seen]:
    """What was seen, in at most so many cells, each as large as the largest in it."""
    distinct: dict[tuple[int, ...], int] = {}
    for sizes, count in seen:
        distinct[tuple(sizes.values())] = distinct.get(tuple(sizes.values()), 0) + count
    if len(distinct) > _CELLS:
        number = max(2, int(_CELLS ** (1 / len(dims))))
        ladders = []
        for at, dim in enumerate(dims):
            alone = [({dim: key[at]}, count) for key, count in distinct.items()]
            ladders.append(sorted(level[dim] for level in _levels(dim, alone, number, volume)))
        cells: dict[tuple[int, ...], list[tuple[tuple[int, ...], int]]] = {}
        for key, count in distinct.items():
            place = tuple(
                next(level for level in ladder if size <= level)
                for size, ladder in zip(key, ladders, strict=True)
            )
            cells.setdefault(place, []).append((key, count))
        distinct = {
            tuple(max(sizes) for sizes in zip(*(key for key, _ in held), strict=True)): sum(
                count for _, count in held
            )
            for held in cells.values()
        }
    return [(dict(zip(dims, key, strict=True)), count) for key, count in distinct.items()]


def _merged(cells: list[Seen], number: int, cost: Cost) -> list[dict[str, int]]:
    """Merge two at a time until so few are left."""
    held = [(dict(sizes), count, cost(sizes)) for sizes, count in cells]

    def extra(one: int, other: int) -> float:
        (a, rows_a, price_a), (b, rows_b, price_b) = held[one], held[other]
        price = cost({dim: max(size, b[dim]) for dim, size in a.items()})
        return rows_a * (price - price_a) + rows_b * (price - price_b)

    alive = set(range(len(held)))
    line = [(extra(a, b), a, b) for a, b in combinations(range(len(held)), 2)]
    heapify(line)
    while len(alive) > number:
        _, one, other = heappop(line)
        if one not in alive or other not in alive:
            continue
        (a, rows_a, _), (b, rows_b, _) = held[one], held[other]
        both = {dim: max(size, b[dim]) for dim, size in a.items()}
        held.append((both, rows_a + rows_b, cost(both)))
        alive -= {one, other}
        new = len(held) - 1
        for old in alive:
            heappush(line, (extra(old, new), old, new))
        alive.add(new)
    return [held[at][0] for at in alive]


def _settled(buckets: list[dict[str, int]], seen: Sequence[Seen], cost: Cost) -> list[dict[str, int]]:
    """Each request in its cheapest bucket, each bucket no larger than what it holds."""
    while True:
        order = sorted(map(_Bucket, buckets), key=cost)
        largest: dict[int, dict[str, int]] = {}
        for sizes, _ in seen:
            at = next(number for number, bucket in enumerate(order) if bucket.holds(sizes))
            kept = largest.get(at, sizes)
            largest[at] = {dim: max(size, kept[dim]) for dim, size in sizes.items()}
        shrunk = list(largest.values())
        if sum(map(cost, shrunk)) >= sum(map(cost, buckets)):
            return shrunk
        buckets = shrunk
