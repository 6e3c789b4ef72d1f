"""Answers in this process: least recently used leave first, none outlives its time."""

from __future__ import annotations

import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from cache.raw import freeze
from headrace.tensors import Array, TensorMap

_OVERHEAD = 512  # bytes of Python objects around an entry


@dataclass(frozen=True, slots=True)
class _Entry:
    outputs: dict[str, Array]
    num_bytes: int
    expires_at: float  # on the cache's clock


class MemoryCache:
    """Tensors by key, within `max_bytes` and for `ttl_s` seconds; for the use of one event loop.

    What it gives back is read-only and shares no memory with what was put in. A budget of 0 stores nothing.
    """

    def __init__(self, max_bytes: int, ttl_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes = max_bytes
        self._ttl_s = ttl_s
        self._clock = clock
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()  # the next to leave comes first
        self._num_bytes = 0

    @property
    def num_bytes(self) -> int:
        """Bytes counted against the budget: keys, arrays and a fixed overhead per entry."""
        return self._num_bytes

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> TensorMap | None:
        """The tensors put under `key`, read-only and in a mapping of the caller's own; None when unknown."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if self._clock() >= entry.expires_at:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return entry.outputs.copy()

    def put(self, key: bytes, outputs: TensorMap) -> None:
        """Keep a copy of `outputs` and let the least recently used go; too large an entry is not kept."""
        if key in self._entries:
            self._drop(key)
        num_bytes = len(key) + _OVERHEAD + sum(map(_num_bytes, outputs.values()))
        if num_bytes > self._max_bytes:
            return
        while self._num_bytes + num_bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))
        self._entries[key] = _Entry(freeze(outputs), num_bytes, self._clock() + self._ttl_s)
        self._num_bytes += num_bytes

    def _drop(self, key: bytes) -> None:
        self._num_bytes -= self._entries.pop(key).num_bytes


def _num_bytes(array: Array) -> int:
    if array.dtype.hasobject:  # nbytes counts the pointers only
        return array.nbytes + sum(map(sys.getsizeof, array.reshape(-1).tolist()))
    return array.nbytes
