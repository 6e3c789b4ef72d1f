"""What a cache of some size would have done for a log of requests: for sizing one before buying it (pure).

Keys are a sample of all when the log is long: each key with a chance, by its hash, and the sizes scaled by
the same, which tells the hit rate of the whole (Waldspurger et al. 2015, SHARDS).
"""

from __future__ import annotations

import zlib
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from cache.memory import OVERHEAD, Entry, MemoryCache
from headrace.errors import CallerError
from headrace.rows import rows_of

POLICIES = ("lru", "lfu", "headrace")
SHARED_OVERHEAD = 200  # bytes in Redis around an answer: its name, its envelope, the table's entry
_MOST = 200_000  # requests that are replayed for each point
_COLUMNS = ("key", "time", "bytes", "seconds")
_BUCKETS = 1 << 24


@dataclass(frozen=True, slots=True)
class Asked:
    """One request of a log."""

    key: bytes
    at: float  # seconds
    num_bytes: int  # of its answer
    cost_s: float  # of computing it


@dataclass(frozen=True, slots=True)
class Point:
    """What one set-up would have done."""

    policy: str
    max_bytes: int
    ttl_s: float
    hit_rate: float  # of requests
    saved: float  # of the seconds that computing all of them takes


class Store(Protocol):
    """A cache that is only counted."""

    def has(self, asked: Asked) -> bool: ...
    def put(self, asked: Asked) -> None: ...


def read_log(text: str, usual_bytes: int = 2048) -> list[Asked]:
    """A log as CSV with a header, or as JSON lines: `key`, and where they are known `time` in seconds,
    `bytes` of the answer and `seconds` of computing it. CallerError says which line is wrong."""
    rows = rows_of(text, "log", "key", f", 'key' among: {', '.join(_COLUMNS)}")
    found: list[Asked] = []
    for number, row in rows:
        key = row.get("key")
        if key in (None, ""):
            raise CallerError(f"line {number} of the log has no key; columns: {', '.join(_COLUMNS)}")
        try:
            at, size, cost = (
                float(str(row.get(column) or usual))
                for column, usual in (("time", len(found)), ("bytes", usual_bytes), ("seconds", 1.0))
            )
        except ValueError as err:
            raise CallerError(f"line {number} of the log: {err}") from err
        found.append(Asked(str(key).encode(), at, int(size), cost))
    if not found:
        raise CallerError("the log has no requests")
    return sorted(found, key=lambda asked: asked.at)


def working_set(log: Iterable[Asked]) -> int:
    """The bytes that all different answers take in Redis."""
    return sum(asked.num_bytes + SHARED_OVERHEAD for asked in {asked.key: asked for asked in log}.values())


def sizes_for(log: Sequence[Asked], count: int = 8) -> list[int]:
    """From a 256th of the working set, at least that of a hundred answers, to all of it, by equal factors."""
    most = working_set(log)
    least = max(most // 256, min(most // 2, 100 * most // len({asked.key for asked in log})))
    return [round(least * (most / least) ** (step / (count - 1))) for step in range(count)]


def simulate(
    log: Sequence[Asked], sizes: Sequence[int], ttls: Sequence[float], policies: Sequence[str] = POLICIES
) -> Iterator[Point]:
    """Every policy with every size and every time to live, one after the other."""
    share = min(1.0, _MOST / len(log))
    sample = [asked for asked in log if zlib.crc32(asked.key) % _BUCKETS < share * _BUCKETS]
    for policy in policies:
        for ttl_s in ttls:
            for max_bytes in sizes:
                yield _replayed(sample, policy, max_bytes, ttl_s, share)


def _replayed(log: Sequence[Asked], policy: str, max_bytes: int, ttl_s: float, share: float) -> Point:
    store = _store(policy, max(1, int(max_bytes * share)), ttl_s)
    hits = 0
    saved = total = 0.0
    for asked in log:
        total += asked.cost_s
        if store.has(asked):
            hits += 1
            saved += asked.cost_s
        else:
            store.put(asked)
    return Point(policy, max_bytes, ttl_s, hits / max(1, len(log)), saved / total if total else 0.0)


def _store(policy: str, max_bytes: int, ttl_s: float) -> Store:
    if policy == "lru":
        return _Lru(max_bytes, ttl_s)
    if policy == "lfu":
        return _Lfu(max_bytes, ttl_s)
    if policy == "headrace":
        return _Ours(max_bytes, ttl_s)
    raise CallerError(f"unknown policy {policy!r}; there are: {', '.join(POLICIES)}")


class _Lru:
    """What was asked for the longest ago leaves first."""

    def __init__(self, max_bytes: int, ttl_s: float) -> None:
        self._left = max_bytes
        self._ttl_s = ttl_s
        self._kept: OrderedDict[bytes, tuple[int, float]] = OrderedDict()

    def has(self, asked: Asked) -> bool:
        entry = self._kept.get(asked.key)
        if entry is None:
            return False
        if asked.at >= entry[1]:
            self._drop(asked.key)
            return False
        self._kept.move_to_end(asked.key)
        return True

    def put(self, asked: Asked) -> None:
        size = asked.num_bytes + SHARED_OVERHEAD
        self._kept[asked.key] = size, asked.at + self._ttl_s
        self._left -= size
        while self._left < 0:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: bytes) -> None:
        self._left += self._kept.pop(key)[0]


class _Lfu:
    """What was asked for the fewest times leaves first, of equals the oldest."""

    def __init__(self, max_bytes: int, ttl_s: float) -> None:
        self._left = max_bytes
        self._ttl_s = ttl_s
        self._kept: dict[bytes, tuple[int, float, int]] = {}  # bytes, end, times
        self._by_times: defaultdict[int, OrderedDict[bytes, None]] = defaultdict(OrderedDict)

    def has(self, asked: Asked) -> bool:
        entry = self._kept.get(asked.key)
        if entry is None:
            return False
        size, end, times = entry
        del self._by_times[times][asked.key]
        if asked.at >= end:
            del self._kept[asked.key]
            self._left += size
            return False
        self._kept[asked.key] = size, end, times + 1
        self._by_times[times + 1][asked.key] = None
        return True

    def put(self, asked: Asked) -> None:
        size = asked.num_bytes + SHARED_OVERHEAD
        while self._left < size and self._kept:
            times = min(times for times, keys in self._by_times.items() if keys)
            key, _ = self._by_times[times].popitem(last=False)
            self._left += self._kept.pop(key)[0]
        if self._left >= size:
            self._kept[asked.key] = size, asked.at + self._ttl_s, 1
            self._by_times[1][asked.key] = None
            self._left -= size


class _Ours:
    """A gateway's memory itself."""

    def __init__(self, max_bytes: int, ttl_s: float) -> None:
        self._now = 0.0
        self._ttl_s = ttl_s
        self._cache = MemoryCache(max_bytes, lambda: self._now)

    def has(self, asked: Asked) -> bool:
        self._now = asked.at
        return self._cache.get(asked.key) is not None

    def put(self, asked: Asked) -> None:
        size = asked.num_bytes + OVERHEAD
        if size <= self._cache.max_bytes:
            self._cache.keep(asked.key, Entry({}, size, asked.at, asked.at + self._ttl_s))
