from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cache.memory import MemoryCache


def tensors(value: float = 0.0, num: int = 100) -> dict[str, Any]:
    return {"y": np.full(num, value, dtype=np.float64)}


def entry_bytes() -> int:
    cache = MemoryCache(10_000, 60)
    cache.put(b"k", tensors())
    return cache.num_bytes


def test_what_is_put_is_got_bit_for_bit() -> None:
    cache = MemoryCache(10_000, 60)
    given = {"y": np.array([np.nan, -0.0], dtype=np.float32), "s": np.array([b"a", b""], dtype=object)}
    cache.put(b"k", given)
    got = cache.get(b"k")
    assert got is not None
    assert got["y"].tobytes() == given["y"].tobytes()
    assert got["s"].tolist() == [b"a", b""]
    assert cache.get(b"other") is None


def test_the_least_recently_used_leaves_first() -> None:
    cache = MemoryCache(3 * entry_bytes(), 60)
    for key in (b"a", b"b", b"c"):
        cache.put(key, tensors())
    cache.get(b"a")
    cache.put(b"d", tensors())
    assert [cache.get(key) is not None for key in (b"a", b"b", b"c", b"d")] == [True, False, True, True]


def test_an_answer_leaves_when_its_time_is_up(clock: Any) -> None:
    cache = MemoryCache(10_000, 60, clock)
    cache.put(b"k", tensors())
    clock.now += 59.9
    assert cache.get(b"k") is not None
    clock.now += 0.1
    assert cache.get(b"k") is None
    assert (len(cache), cache.num_bytes) == (0, 0)


def test_putting_again_replaces_and_renews(clock: Any) -> None:
    cache = MemoryCache(10_000, 60, clock)
    cache.put(b"k", tensors(1))
    clock.now += 50
    cache.put(b"k", tensors(2, num=10))
    clock.now += 50
    got = cache.get(b"k")
    assert got is not None
    assert got["y"].tolist() == [2.0] * 10
    assert len(cache) == 1


def test_the_budget_is_never_exceeded_and_the_count_is_exact() -> None:
    cache = MemoryCache(20_000, 60)
    rng = np.random.default_rng(0)
    for _ in range(500):
        cache.put(bytes([rng.integers(50)]), tensors(num=int(rng.integers(400))))
        assert cache.num_bytes <= 20_000
    kept = [bytes([number]) for number in range(50) if cache.get(bytes([number])) is not None]
    assert len(kept) == len(cache)


def test_an_entry_larger_than_the_budget_is_not_kept_and_displaces_nothing() -> None:
    cache = MemoryCache(2 * entry_bytes(), 60)
    cache.put(b"a", tensors())
    cache.put(b"b", tensors(num=10_000))
    assert cache.get(b"a") is not None
    assert cache.get(b"b") is None


def test_an_entry_too_large_replaces_its_outdated_predecessor_by_nothing() -> None:
    cache = MemoryCache(2 * entry_bytes(), 60)
    cache.put(b"a", tensors())
    cache.put(b"a", tensors(num=10_000))
    assert cache.get(b"a") is None


def test_a_budget_of_zero_stores_nothing() -> None:
    cache = MemoryCache(0, 60)
    cache.put(b"k", {})
    assert cache.get(b"k") is None
    assert len(cache) == 0


def test_strings_count_with_their_own_size() -> None:
    cache = MemoryCache(10**6, 60)
    cache.put(b"k", {"s": np.array([b"x" * 100_000], dtype=object)})
    assert cache.num_bytes > 100_000


def test_a_view_of_a_large_batch_is_copied_out_of_it() -> None:
    cache = MemoryCache(10_000, 60)
    batch = np.zeros((1000, 100))
    cache.put(b"k", {"y": batch[3]})
    batch[:] = 7.0
    got = cache.get(b"k")
    assert got is not None
    assert got["y"].base is None
    assert not got["y"].any()


def test_a_cached_answer_cannot_be_changed_by_who_gets_it() -> None:
    cache = MemoryCache(10_000, 60)
    cache.put(b"k", tensors(1))
    got: Any = cache.get(b"k")
    with pytest.raises(ValueError, match="read-only"):
        got["y"][0] = 5.0
    got.clear()
    again = cache.get(b"k")
    assert again is not None
    assert again["y"].tolist() == [1.0] * 100
