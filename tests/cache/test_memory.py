from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cache.memory import MemoryCache


def tensors(value: float = 0.0, num: int = 100) -> dict[str, Any]:
    return {"y": np.full(num, value, dtype=np.float64)}


def ask(cache: MemoryCache, key: bytes) -> bool:
    """As a request does: computed and put when it is not there."""
    if cache.get(key) is not None:
        return True
    cache.put(key, tensors(), 60)
    return False


def entry_bytes() -> int:
    cache = MemoryCache(10_000)
    cache.put(b"k", tensors(), 60)
    return cache.num_bytes


def test_what_is_put_is_got_bit_for_bit() -> None:
    cache = MemoryCache(10_000)
    given = {"y": np.array([np.nan, -0.0], dtype=np.float32), "s": np.array([b"a", b""], dtype=object)}
    cache.put(b"k", given, 60)
    got = cache.get(b"k")
    assert got is not None
    assert got.outputs["y"].tobytes() == given["y"].tobytes()
    assert got.outputs["s"].tolist() == [b"a", b""]
    assert cache.get(b"other") is None


def test_the_least_recently_used_leaves_first_for_what_is_asked_for_again() -> None:
    cache = MemoryCache(3 * entry_bytes())
    for key in (b"a", b"b", b"c"):
        cache.put(key, tensors(), 60)
    cache.get(b"a")
    for _ in range(2):
        ask(cache, b"d")
    assert [cache.get(key) is not None for key in (b"a", b"b", b"c", b"d")] == [True, False, True, True]


def test_a_scan_of_what_nobody_asks_for_twice_displaces_nothing() -> None:
    cache = MemoryCache(20 * entry_bytes())
    for _ in range(2):
        for number in range(16):
            ask(cache, b"often%d" % number)
    for number in range(1000):
        ask(cache, b"once%d" % number)
    assert sum(cache.get(b"often%d" % number) is not None for number in range(16)) >= 15


def test_what_becomes_popular_replaces_what_was() -> None:
    cache = MemoryCache(20 * entry_bytes())
    for name in (b"old", b"new"):
        for _ in range(60):
            for number in range(18):
                ask(cache, name + b"%d" % number)
    assert sum(cache.get(b"new%d" % number) is not None for number in range(18)) >= 16


def test_a_large_newcomer_has_to_be_worth_all_that_leave_for_it() -> None:
    cache = MemoryCache(10 * entry_bytes())
    for number in range(9):
        ask(cache, b"small%d" % number)
    cache.put(b"large", tensors(num=500), 60)
    assert cache.get(b"large") is None
    for _ in range(8):
        cache.get(b"large")
    cache.put(b"large", tensors(num=500), 60)
    assert cache.get(b"large") is not None


def test_what_was_computed_a_while_ago_has_less_time_left(clock: Any) -> None:
    cache = MemoryCache(10_000, clock)
    cache.put(b"k", tensors(), 60, age_s=50)
    clock.now += 5
    kept = cache.get(b"k")
    assert kept is not None
    assert kept.age_s == 55
    clock.now += 5
    assert cache.get(b"k") is None
    cache.put(b"k", tensors(), 60, age_s=60)
    assert len(cache) == 0


def test_what_is_dropped_is_gone_and_dropping_the_unknown_is_no_fault() -> None:
    cache = MemoryCache(10_000)
    cache.put(b"k", tensors(), 60)
    cache.drop(b"k")
    cache.drop(b"k")
    assert (cache.get(b"k"), len(cache), cache.num_bytes) == (None, 0, 0)


def test_an_answer_leaves_when_its_time_is_up(clock: Any) -> None:
    cache = MemoryCache(10_000, clock)
    cache.put(b"k", tensors(), 60)
    clock.now += 59.9
    assert cache.get(b"k") is not None
    clock.now += 0.1
    assert cache.get(b"k") is None
    assert (len(cache), cache.num_bytes) == (0, 0)


def test_putting_again_replaces_and_renews(clock: Any) -> None:
    cache = MemoryCache(10_000, clock)
    cache.put(b"k", tensors(1), 60)
    clock.now += 50
    cache.put(b"k", tensors(2, num=10), 60)
    clock.now += 50
    got = cache.get(b"k")
    assert got is not None
    assert got.outputs["y"].tolist() == [2.0] * 10
    assert len(cache) == 1


def test_the_budget_is_never_exceeded_and_the_count_is_exact() -> None:
    cache = MemoryCache(20_000)
    rng = np.random.default_rng(0)
    for _ in range(500):
        cache.put(bytes([rng.integers(50)]), tensors(num=int(rng.integers(400))), 60)
        assert cache.num_bytes <= 20_000
    kept = [bytes([number]) for number in range(50) if cache.get(bytes([number])) is not None]
    assert len(kept) == len(cache)


def test_an_entry_larger_than_the_budget_is_not_kept_and_displaces_nothing() -> None:
    cache = MemoryCache(2 * entry_bytes())
    cache.put(b"a", tensors(), 60)
    cache.put(b"b", tensors(num=10_000), 60)
    assert cache.get(b"a") is not None
    assert cache.get(b"b") is None


def test_an_entry_too_large_replaces_its_outdated_predecessor_by_nothing() -> None:
    cache = MemoryCache(2 * entry_bytes())
    cache.put(b"a", tensors(), 60)
    cache.put(b"a", tensors(num=10_000), 60)
    assert cache.get(b"a") is None


def test_a_budget_of_zero_stores_nothing() -> None:
    cache = MemoryCache(0)
    cache.put(b"k", {}, 60)
    assert cache.get(b"k") is None
    assert len(cache) == 0


def test_strings_count_with_their_own_size() -> None:
    cache = MemoryCache(10**6)
    cache.put(b"k", {"s": np.array([b"x" * 100_000], dtype=object)}, 60)
    assert cache.num_bytes > 100_000


def test_a_view_of_a_large_batch_is_copied_out_of_it() -> None:
    cache = MemoryCache(10_000)
    batch = np.zeros((1000, 100))
    cache.put(b"k", {"y": batch[3]}, 60)
    batch[:] = 7.0
    got = cache.get(b"k")
    assert got is not None
    assert got.outputs["y"].base is None
    assert not got.outputs["y"].any()


def test_a_cached_answer_cannot_be_changed_by_who_gets_it() -> None:
    cache = MemoryCache(10_000)
    cache.put(b"k", tensors(1), 60)
    got: Any = cache.get(b"k")
    with pytest.raises(ValueError, match="read-only"):
        got.outputs["y"][0] = 5.0
    got.outputs.clear()
    again = cache.get(b"k")
    assert again is not None
    assert again.outputs["y"].tolist() == [1.0] * 100
