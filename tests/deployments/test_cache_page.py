from __future__ import annotations

import re

from cache.simulate import Point
from deployments.cache_page import as_html, curves, mib, seconds

POINTS = [
    Point(policy, size, ttl_s, hits, hits / 2)
    for policy, hits in (("lru", 0.1), ("headrace", 0.2))
    for size in (1 << 20, 1 << 23)
    for ttl_s in (60.0, 3600.0)
]


def test_each_policy_and_time_to_live_is_a_line_from_small_to_large() -> None:
    found = curves(POINTS[::-1])
    assert len(found) == 4
    assert [point.max_bytes for point in found["lru", 60.0]] == [1 << 20, 1 << 23]
    page = as_html(POINTS, 1000, 10)
    assert len(re.findall("<polyline", page)) == 4
    assert "1,000 requests with 10 different answers" in page
    assert "kept for 1 h" in page
    assert "<script" not in page


def test_one_size_alone_and_no_hits_can_be_drawn() -> None:
    assert "0.0%" in as_html([Point("lru", 1 << 20, 60.0, 0.0, 0.0)], 1, 1)


def test_sizes_and_times_are_told_in_round_words() -> None:
    assert [mib(size) for size in (1 << 18, 1 << 20, 100 << 20)] == ["0.25", "1", "100"]
    assert [seconds(value) for value in (30, 90, 3600, 172_800)] == ["30 s", "1.5 min", "1 h", "2 d"]
