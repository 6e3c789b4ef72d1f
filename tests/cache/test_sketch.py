"""Counts are never too low, and seldom too high."""

from __future__ import annotations

import hashlib

from cache.sketch import Sketch


def key(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def test_a_key_is_counted_as_often_as_it_was_added_up_to_fifteen() -> None:
    sketch = Sketch(1000)
    for number in range(20):
        for _ in range(number):
            sketch.add(key(number))
    assert [sketch.count(key(number)) for number in range(20)] == [min(number, 15) for number in range(20)]
    assert sketch.num_added == sum(range(20))


def test_with_as_many_keys_as_it_is_made_for_few_counts_are_too_high() -> None:
    sketch = Sketch(1000)
    for number in range(1000):
        sketch.add(key(number))
    counts = [sketch.count(key(number)) for number in range(1000)]
    assert min(counts) == 1
    assert sum(count > 1 for count in counts) < 60
    assert sum(sketch.count(key(-number)) > 0 for number in range(1, 1001)) < 60


def test_halving_lets_what_was_popular_fade() -> None:
    sketch = Sketch(1000)
    for _ in range(12):
        sketch.add(b"k")
    sketch.halve()
    assert (sketch.count(b"k"), sketch.num_added) == (6, 0)
    sketch.add(b"k")
    assert sketch.count(b"k") == 7
