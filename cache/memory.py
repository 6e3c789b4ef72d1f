"""Answers in this process: what is asked for often stays, none outlives its time."""

from __future__ import annotations

import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from cache.kept import Kept
from cache.raw import freeze
from cache.sketch import Sketch
from headrace.tensors import Array, TensorMap

OVERHEAD = 512  # bytes of Python objects around an entry
_WINDOW = 0.1  # of the budget, for what is new
_USUAL = 1024  # bytes of an entry, to choose how many keys are counted
_COUNTED = 1 << 10, 1 << 20
_SAMPLE, _FEW = 10, 100  # lookups for each entry, but for so many at least, until counts are halved


@dataclass(frozen=True, slots=True)
class Entry:
    """What is kept under a key."""

    outputs: dict[str, Array]
    num_bytes: int
    made_at: float  # on the cache's clock
    expires_at: float


class _Segment:
    """Entries in the order in which they were last asked for, and their bytes."""

    def __init__(self) -> None:
        self.entries: OrderedDict[bytes, Entry] = OrderedDict()
        self.num_bytes = 0

    def add(self, key: bytes, entry: Entry) -> None:
        self.entries[key] = entry
        self.num_bytes += entry.num_bytes

    def drop(self, key: bytes) -> None:
        self.num_bytes -= self.entries.pop(key).num_bytes

    def pop_oldest(self) -> tuple[bytes, Entry]:
        key, entry = self.entries.popitem(last=False)
        self.num_bytes -= entry.num_bytes
        return key, entry


class MemoryCache:
    """Tensors by key, within `max_bytes`; for the use of one event loop.

    What is new gets a tenth of the budget. What has to leave that takes the places of those that were not
    asked for the longest, if it was asked for more often than all of them; else it goes. So a scan of keys
    that nobody asks for twice displaces nothing (W-TinyLFU).

    What it gives back is read-only and shares no memory with what was put in. A budget of 0 stores nothing.
    """

    def __init__(self, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.max_bytes = max_bytes
        self._clock = clock
        self._new, self._main = _Segment(), _Segment()
        fewest, most = _COUNTED
        self._asked = Sketch(min(max(max_bytes // _USUAL, fewest), most))

    @property
    def num_bytes(self) -> int:
        """Bytes counted against the budget: keys, arrays and a fixed overhead per entry."""
        return self._new.num_bytes + self._main.num_bytes

    def __len__(self) -> int:
        return len(self._new.entries) + len(self._main.entries)

    def get(self, key: bytes) -> Kept | None:
        """The tensors put under `key`, read-only and in a mapping of the caller's own; None when unknown."""
        self._asked.add(key)
        if self._asked.num_added > _SAMPLE * max(len(self), _FEW):
            self._asked.halve()
        segment = self._main if key in self._main.entries else self._new
        entry = segment.entries.get(key)
        if entry is None:
            return None
        now = self._clock()
        if now >= entry.expires_at:
            segment.drop(key)
            return None
        segment.entries.move_to_end(key)
        return Kept(entry.outputs.copy(), now - entry.made_at)

    def put(self, key: bytes, outputs: TensorMap, ttl_s: float, age_s: float = 0.0) -> None:
        """Keep a copy of `outputs`, which were computed `age_s` ago, until they are `ttl_s` old; what is too
        large is not kept."""
        num_bytes = len(key) + OVERHEAD + sum(map(_num_bytes, outputs.values()))
        if num_bytes > self.max_bytes or age_s >= ttl_s:
            self.drop(key)
            return
        made_at = self._clock() - age_s
        self.keep(key, Entry(freeze(outputs), num_bytes, made_at, made_at + ttl_s))

    def keep(self, key: bytes, entry: Entry) -> None:
        """The same for what fits the budget."""
        self.drop(key)
        if entry.num_bytes > _WINDOW * self.max_bytes:
            self._settle(key, entry)
            return
        self._new.add(key, entry)
        while self._new.num_bytes > _WINDOW * self.max_bytes:
            self._settle(*self._new.pop_oldest())
        while self.num_bytes > self.max_bytes:
            self._main.pop_oldest()

    def drop(self, key: bytes) -> None:
        """Forget an answer, known or not."""
        for segment in (self._new, self._main):
            if key in segment.entries:
                segment.drop(key)

    def drop_all(self, is_dropped: Callable[[bytes], bool]) -> None:
        """Forget the answers whose keys are told so."""
        for segment in (self._new, self._main):
            for key in [key for key in segment.entries if is_dropped(key)]:
                segment.drop(key)

    def _settle(self, key: bytes, entry: Entry) -> None:
        """Into the main segment, if it is worth at least what has to leave for it."""
        missing = self.num_bytes + entry.num_bytes - self.max_bytes
        now = self._clock()
        worth = self._asked.count(key)
        leaving: list[bytes] = []
        for other, old in self._main.entries.items():
            if missing <= 0:
                break
            if now < old.expires_at:
                worth -= self._asked.count(other)
                if worth <= 0:
                    return
            missing -= old.num_bytes
            leaving.append(other)
        if missing > 0:
            return
        for other in leaving:
            self._main.drop(other)
        self._main.add(key, entry)


def _num_bytes(array: Array) -> int:
    if array.dtype.hasobject:  # nbytes counts the pointers only
        return array.nbytes + sum(map(sys.getsizeof, array.reshape(-1).tolist()))
    return array.nbytes
