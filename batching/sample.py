"""A few of the inputs that were computed of late, each as likely as the others, within bounds."""

from __future__ import annotations

import random

import numpy as np

from headrace.tensors import Array, TensorMap

MAX_BYTES = 32 << 20  # of one model in one gateway
_LARGEST = 8  # of the bytes, so that a few large requests do not push all others out
_LATELY = 100  # times as many requests as are kept: those before them fade


class InputSample:
    """At most `count` requests' inputs, copied. The first ones are all kept, then each of the last
    100 * `count` requests is about as likely to be there, and older ones fade."""

    def __init__(self, count: int, max_bytes: int = MAX_BYTES, chance: random.Random | None = None) -> None:
        self._count = count
        self._max_bytes = max_bytes
        self._chance = chance or random.Random()  # noqa: S311  no secret
        self._kept: list[dict[str, Array]] = []
        self._num_bytes = 0
        self._num_seen = 0
        self._is_filling = True

    def note(self, inputs: TensorMap) -> None:
        self._num_seen = min(self._num_seen + 1, _LATELY * self._count)
        if not self._is_filling and self._chance.random() * self._num_seen >= len(self._kept):
            return
        size = _num_bytes(inputs)
        if size * _LARGEST > self._max_bytes:
            return
        self._kept.append({name: np.array(array) for name, array in inputs.items()})
        self._num_bytes += size
        while len(self._kept) > self._count or self._num_bytes > self._max_bytes:
            at = self._chance.randrange(len(self._kept) - 1)
            self._num_bytes -= _num_bytes(self._kept[at])
            self._kept[at] = self._kept[-1]
            self._kept.pop()
            self._is_filling = False
        self._is_filling = self._is_filling and len(self._kept) < self._count

    def kept(self) -> list[dict[str, Array]]:
        """In no order; not to be changed."""
        return list(self._kept)


def _num_bytes(inputs: TensorMap) -> int:
    return sum(
        array.nbytes + (sum(map(len, array.flat)) if array.dtype.hasobject else 0)
        for array in inputs.values()
    )
