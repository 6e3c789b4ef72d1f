from __future__ import annotations

import json
import random

import pytest

from cache.simulate import POLICIES, SHARED_OVERHEAD, Asked, read_log, simulate, sizes_for, working_set
from headrace.errors import CallerError

EACH = 1000 - SHARED_OVERHEAD  # so that an answer takes 1,000 bytes


def log(keys: str, every_s: float = 1.0, cost_s: float = 0.1) -> list[Asked]:
    return [Asked(key.encode(), number * every_s, EACH, cost_s) for number, key in enumerate(keys)]


def rate(policy: str, keys: str, size: int, ttl_s: float = 1e9, every_s: float = 1.0) -> float:
    (point,) = simulate(log(keys, every_s), [size], [ttl_s], [policy])
    return point.hit_rate * len(keys)


def test_lru_drops_what_was_asked_for_the_longest_ago() -> None:
    assert rate("lru", "abab", 2000) == 2
    assert rate("lru", "abcabc", 2000) == 0
    assert rate("lru", "abacab", 2000) == 2  # a, and a again; b was dropped for c
    assert rate("lru", "aa", 999) == 0  # too large to be kept


def test_lfu_drops_what_was_asked_for_the_fewest_times() -> None:
    assert rate("lfu", "aaabcda", 2000) == 3
    assert rate("lru", "aaabcda", 2000) == 2
    assert rate("lfu", "aa", 999) == 0


def test_headraces_memory_is_not_flushed_by_a_scan() -> None:
    scan = "".join(chr(1000 + number) for number in range(500))
    keys = "ab" * 20 + scan + "ab"
    assert rate("headrace", keys, 30_000) == 40
    assert rate("lru", keys, 30_000) == 38


@pytest.mark.parametrize("policy", POLICIES)
def test_none_outlives_its_time(policy: str) -> None:
    assert rate(policy, "aaaa", 100_000, ttl_s=2.5) == 2  # the fourth comes three seconds after the first
    assert rate(policy, "aaaa", 100_000, ttl_s=3.5) == 3


@pytest.mark.parametrize("policy", POLICIES)
def test_room_for_all_hits_whatever_was_there_before(policy: str) -> None:
    keys = "".join(random.Random(3).choices("abcdefghij", k=200))
    assert rate(policy, keys, 10**6) == 200 - len(set(keys))


def test_what_is_saved_counts_by_what_it_costs() -> None:
    asked = [Asked(b"cheap", 0, EACH, 1.0), Asked(b"dear", 1, EACH, 9.0), Asked(b"dear", 2, EACH, 9.0)]
    (point,) = simulate(asked, [10_000], [1e9], ["lru"])
    assert point.saved == pytest.approx(9 / 19)


def test_a_long_log_is_sampled_and_tells_nearly_the_same() -> None:
    draw = random.Random(5)
    keys = [f"k{int(draw.paretovariate(0.7)) % 60_000}" for _ in range(500_000)]
    asked = [Asked(key.encode(), number, EACH, 1.0) for number, key in enumerate(keys)]
    size = working_set(asked) // 10
    (sampled,) = simulate(asked, [size], [1e9], ["lru"])
    kept: dict[str, None] = {}
    hits = 0
    for key in keys:
        hits += key in kept
        kept.pop(key, None)
        kept[key] = None
        if len(kept) > size // 1000:
            del kept[next(iter(kept))]
    assert sampled.hit_rate == pytest.approx(hits / len(keys), abs=0.05)


def test_sizes_go_up_to_the_working_set_by_equal_factors() -> None:
    asked = log("".join(chr(1000 + number) for number in range(5000)))
    sizes = sizes_for(asked)
    assert sizes[-1] == working_set(asked) == 5_000_000
    assert sizes[0] == 100_000
    assert sizes == sorted(sizes)


def test_logs_are_read_as_csv_and_as_json_lines() -> None:
    wanted = [Asked(b"a", 1.5, 10, 0.2), Asked(b"b", 2.0, 2048, 1.0)]
    assert read_log("time,key,bytes,seconds\n2,b,,\n1.5,a,10,0.2\n") == wanted
    rows = [{"key": "a", "time": 1.5, "bytes": 10, "seconds": 0.2}, {"key": "b", "time": 2}]
    assert read_log("\n".join(map(json.dumps, rows)) + "\n") == wanted
    assert [asked.at for asked in read_log("key\na\nb\n")] == [0, 1]  # in the order of lines


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("time,bytes\n1,2\n", "must name its columns, 'key' among"),
        ("", "must name its columns"),
        ("key\n", "the log has no requests"),
        ("key,time\na,soon\n", "line 2 of the log: could not convert"),
        ("key,time\n,1\n", "line 2 of the log has no key"),
        ('{"key": "a"}\n{broken\n', "line 2 of the log is no JSON"),
        ('{"key": "a"}\n[1]\n', "line 2 of the log is no JSON object"),
    ],
)
def test_a_wrong_log_is_refused_with_the_line(text: str, problem: str) -> None:
    with pytest.raises(CallerError, match=problem):
        read_log(text)


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(CallerError, match="unknown policy 'fifo'; there are: lru, lfu, headrace"):
        list(simulate(log("a"), [1000], [1.0], ["fifo"]))
