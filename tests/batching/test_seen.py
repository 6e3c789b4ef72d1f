"""Counting stays within bounds and keeps what is frequent."""

from __future__ import annotations

from batching.seen import SizesSeen, merged


def test_rows_are_counted_by_their_sizes() -> None:
    seen = SizesSeen()
    for length, batch in ((7, 1), (9, 2), (9, 3), (7, 1)):
        seen.count({"batch": batch, "length": length})
    assert seen.told() == [{"sizes": {"length": 9}, "count": 5}, {"sizes": {"length": 7}, "count": 2}]


def test_a_model_without_variable_dimensions_has_one_size() -> None:
    seen = SizesSeen()
    seen.count({"batch": 4})
    seen.count({})
    assert seen.told() == [{"sizes": {}, "count": 5}]


def test_what_is_frequent_stays_when_there_are_too_many_sizes() -> None:
    seen = SizesSeen(distinct=100)
    for length in range(10_000):
        seen.count({"batch": 1, "length": length})
        for _ in range(3):
            seen.count({"batch": 1, "length": 5})
        assert len(seen.told()) <= 100
    assert seen.told()[0]["sizes"] == {"length": 5}


def test_a_request_without_rows_is_no_row() -> None:
    seen = SizesSeen(distinct=1)
    seen.count({"batch": 0, "length": 1})
    seen.count({"batch": 0, "length": 2})
    assert seen.told() == []


def test_what_several_have_seen_adds_up() -> None:
    one = [{"sizes": {"length": 5}, "count": 2}, {"sizes": {"length": 6}, "count": 3}]
    other = [{"sizes": {"length": 5}, "count": 2}]
    assert merged([one, other, []]) == [
        {"sizes": {"length": 5}, "count": 4},
        {"sizes": {"length": 6}, "count": 3},
    ]
