"""Which group leaves next. The clock is an argument: nothing here waits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batching.queue import DEFAULT_LEVEL, LAST_LEVEL, Estimate, Item, WaitingQueue
from headrace.errors import TensorRejected
from headrace.tensors import Signature, TensorSpec

SIGNATURE = Signature(
    (TensorSpec("ids", "INT64", ("batch", "length")),), (TensorSpec("y", "FP32", ("batch", "length")),)
)


def queue(
    can_pad: bool = True,
    max_batch: int = 4,
    max_padding: float = 0.25,
    max_queue: int = 99,
    buckets: tuple[int, ...] = (),
    permits: int = 1,
) -> WaitingQueue:
    return WaitingQueue(
        SIGNATURE,
        can_pad=can_pad,
        max_batch=max_batch,
        max_padding=max_padding,
        max_queue=max_queue,
        permits=permits,
        buckets=[{"length": length} for length in buckets],
    )


def item(
    length: int,
    rows: int = 1,
    at: float = 0.0,
    deadline: float | None = None,
    outputs: tuple[str, ...] = (),
    priority: int = DEFAULT_LEVEL,
) -> Item:
    inputs = {"ids": np.zeros((rows, length), np.int64)}
    return Item(inputs, outputs, {"batch": rows, "length": length}, rows, at, deadline, None, priority)


def fill(waiting: WaitingQueue, *items: Item) -> None:
    for one in items:
        waiting.add(one)


def lengths(group: list[Item]) -> list[int]:
    return sorted(one.sizes["length"] for one in group)


def takes(seconds: float) -> Estimate:
    return lambda _elements: seconds


def leave(waiting: WaitingQueue, now: float = 0.0) -> list[Item]:
    return waiting.next_group(now, max_wait_s=0.0, estimate=takes(0.0))


def test_the_oldest_leaves_with_its_nearest_neighbours_in_length() -> None:
    waiting = queue()
    fill(waiting, item(20), item(90), item(19), item(22), item(5), item(21), item(88))
    assert lengths(leave(waiting)) == [19, 20, 21, 22]
    assert lengths(leave(waiting)) == [88, 90]
    assert lengths(leave(waiting)) == [5]
    assert leave(waiting) == []


def test_a_newcomer_overtakes_no_more_than_two_batches() -> None:
    waiting = queue(max_batch=2, max_padding=0.1)
    fill(waiting, item(20), item(90), item(60), item(5), item(20))
    assert lengths(leave(waiting)) == [20]
    assert lengths(leave(waiting)) == [90]  # now the other 20 is among the oldest four
    fill(waiting, item(61), item(20))
    assert lengths(leave(waiting)) == [60, 61]


def test_padding_stays_within_the_limit() -> None:
    waiting = queue(max_padding=0.1)
    fill(waiting, item(10), item(14), item(11))
    assert lengths(leave(waiting)) == [10, 11]


def test_exact_grouping_never_mixes_shapes() -> None:
    waiting = queue(can_pad=False)
    fill(waiting, item(8), item(9), item(8), item(9), item(8))
    assert lengths(leave(waiting)) == [8, 8, 8]
    assert lengths(leave(waiting)) == [9, 9]


def test_requests_for_other_outputs_go_apart() -> None:
    waiting = queue()
    fill(waiting, item(8), item(8, outputs=("y",)), item(8))
    assert len(leave(waiting)) == 2


def test_a_batch_counts_rows_and_a_larger_request_goes_alone() -> None:
    waiting = queue(max_batch=4)
    fill(waiting, item(8, rows=3), item(8, rows=2), item(8, rows=9), item(8, rows=1))
    assert [one.rows for one in leave(waiting)] == [3]
    assert [one.rows for one in leave(waiting)] == [2]
    assert [one.rows for one in leave(waiting)] == [9]
    assert [one.rows for one in leave(waiting)] == [1]


def test_a_request_of_zero_rows_goes_alone() -> None:
    waiting = queue()
    fill(waiting, item(8, rows=0), item(8))
    assert [one.rows for one in leave(waiting)] == [0]


def test_a_full_group_leaves_before_its_age() -> None:
    waiting = queue(max_batch=2)
    waiting.add(item(8))
    assert waiting.next_group(0.5, max_wait_s=1.0, estimate=takes(0.0)) == []
    waiting.add(item(8, at=0.5))
    assert len(waiting.next_group(0.5, max_wait_s=1.0, estimate=takes(0.0))) == 2


def test_an_aged_group_leaves_though_it_is_not_full() -> None:
    waiting = queue()
    waiting.add(item(8))
    assert waiting.due_at(0.0, max_wait_s=1.0, estimate=takes(0.0)) == 1.0
    assert len(waiting.next_group(1.0, max_wait_s=1.0, estimate=takes(0.0))) == 1
    assert waiting.due_at(0.0, max_wait_s=1.0, estimate=takes(0.0)) is None


def test_a_near_deadline_lets_a_group_go() -> None:
    waiting = queue()
    waiting.add(item(8, deadline=0.5))
    assert waiting.due_at(0.0, max_wait_s=1.0, estimate=takes(0.1)) == pytest.approx(0.3)
    assert waiting.next_group(0.2, max_wait_s=1.0, estimate=takes(0.1)) == []
    assert len(waiting.next_group(0.3, max_wait_s=1.0, estimate=takes(0.1))) == 1


def test_a_full_group_leaves_past_an_older_one_that_still_waits() -> None:
    waiting = queue(can_pad=False, max_batch=2)
    fill(waiting, item(9), item(8), item(8))
    assert lengths(waiting.next_group(0.1, max_wait_s=1.0, estimate=takes(0.0))) == [8, 8]
    assert waiting.next_group(0.1, max_wait_s=1.0, estimate=takes(0.0)) == []


def test_a_near_deadline_far_from_the_oldest_lets_its_own_neighbours_go() -> None:
    waiting = queue()
    fill(waiting, item(5), item(90, deadline=0.5), item(91))
    assert waiting.due_at(0.0, max_wait_s=1.0, estimate=takes(0.1)) == pytest.approx(0.3)
    assert lengths(waiting.next_group(0.3, max_wait_s=1.0, estimate=takes(0.1))) == [90, 91]
    assert waiting.next_group(0.3, max_wait_s=1.0, estimate=takes(0.1)) == []


def test_padding_is_counted_in_every_dimension() -> None:
    signature = Signature(
        (TensorSpec("x", "FP32", ("batch", "height", "width")),), (TensorSpec("y", "FP32", ("batch",)),)
    )
    waiting = WaitingQueue(signature, can_pad=True, max_batch=4, max_padding=0.25, max_queue=9)
    shapes = ((100, 1), (1, 100), (100, 1))
    for height, width in shapes:
        sizes = {"batch": 1, "height": height, "width": width}
        waiting.add(Item({}, (), sizes, 1, 0.0, None, None))
    groups = [leave(waiting), leave(waiting)]
    assert sorted(len(group) for group in groups) == [1, 2]


def test_a_discarded_request_lets_go_of_its_tensors() -> None:
    waiting = queue(max_queue=9999)
    stays = item(8)
    waiting.add(stays)
    for _ in range(1000):
        gone = item(8)
        waiting.add(gone)
        waiting.discard(gone)
        assert gone.inputs == {}
    assert len(waiting._line) < 50


def test_a_full_queue_has_no_room_and_its_last_tenth_is_for_those_that_go_first() -> None:
    waiting = queue(max_queue=10)
    fill(waiting, *(item(8) for _ in range(9)))
    assert not waiting.has_room(DEFAULT_LEVEL)
    assert waiting.has_room(1)
    waiting.add(item(8, priority=1))
    assert not waiting.has_room(1)


def test_a_higher_priority_leaves_first_and_finds_only_its_like_ahead() -> None:
    waiting = queue(can_pad=False, max_batch=1)
    usual, urgent, later = item(8, at=0.0), item(9, at=0.5, priority=1), item(7, at=0.6, priority=1)
    fill(waiting, usual, urgent, later)
    assert waiting.ahead_of(1) == (2, 16)
    assert waiting.ahead_of(DEFAULT_LEVEL) == (3, 24)
    assert [leave(waiting, 0.7) for _ in range(3)] == [[urgent], [later], [usual]]


def test_the_lowest_priority_is_passed_by_newcomers_for_a_bounded_time() -> None:
    waiting = queue(can_pad=False, max_batch=1)
    lowest = item(5, at=0.0, priority=LAST_LEVEL)
    waiting.add(lowest)
    for second in range(1, 20):
        waiting.add(item(8, at=float(second)))
        if leave(waiting, float(second)) == [lowest]:
            break
    assert second == 6  # as if it had come six seconds later


def test_a_batch_is_only_as_large_as_its_deadlines_allow() -> None:
    waiting = queue(max_batch=4)
    fill(waiting, item(10, deadline=2.5), *(item(10) for _ in range(3)))
    per_row = lambda elements: elements / 10  # noqa: E731 - a second a row
    assert len(waiting.next_group(0.0, max_wait_s=0.0, estimate=per_row)) == 2
    assert len(waiting.next_group(0.0, max_wait_s=0.0, estimate=per_row)) == 2


def test_a_neighbour_in_a_hurry_keeps_the_batch_small() -> None:
    waiting = queue(max_batch=4)
    fill(waiting, item(10), item(10, deadline=2.5), item(10), item(10))
    assert len(waiting.next_group(0.0, max_wait_s=0.0, estimate=lambda elements: elements / 10)) == 2


def weighed(waiting: WaitingQueue, estimate: Estimate) -> list[int]:
    """The sizes of the batches in which all that waits leaves."""
    sizes = []
    while group := waiting.next_group(0.0, max_wait_s=0.0, estimate=estimate, weighs=True):
        sizes.append(len(group))
    return sizes


def test_where_a_call_costs_most_batches_are_full() -> None:
    waiting = queue(max_batch=4)
    fill(waiting, *(item(10) for _ in range(8)))
    assert weighed(waiting, lambda elements: 1.0 + elements / 1000) == [4, 4]


def test_where_a_call_costs_little_a_batch_is_as_large_as_the_line_behind_it_is_long() -> None:
    """A tenth of a request's time is the call: of 30, two gain what the first loses, but ten do not."""
    estimate = lambda elements: 1.0 + elements  # noqa: E731
    few, many = queue(), queue()
    fill(few, *(item(10) for _ in range(10)))
    assert weighed(few, estimate) == [1] * 10
    fill(many, *(item(10) for _ in range(30)))
    sizes = weighed(many, estimate)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 3
    assert sizes[-1] == 1


def test_padding_that_costs_more_than_a_call_is_not_made() -> None:
    waiting = queue(max_padding=1.0)
    fill(waiting, *(item(length) for length in (10, 12, 10, 12, 10, 12)))
    costly, cheap = (lambda elements: 1.0 + elements), (lambda elements: 10.0 + elements / 10)
    group = waiting.next_group(0.0, max_wait_s=0.0, estimate=costly, weighs=True)
    assert lengths(group) == [10]
    assert len(waiting.next_group(0.0, max_wait_s=0.0, estimate=cheap, weighs=True)) == 4


def test_with_more_permits_fewer_wait_behind_a_batch() -> None:
    estimate = lambda elements: 5.0 + elements  # noqa: E731
    sizes = []
    for permits in (1, 4):
        waiting = queue(permits=permits)
        fill(waiting, *(item(10) for _ in range(8)))
        sizes.append(weighed(waiting, estimate)[0])
    assert sizes == [3, 1]


def test_a_bucket_is_padded_to_its_size_and_never_mixed_with_another() -> None:
    waiting = queue(buckets=(32, 8))
    fill(waiting, item(5), item(9), item(8), item(31))
    group = leave(waiting)
    assert lengths(group) == [5, 8]
    assert [one.target for one in group] == [{"batch": 1, "length": 8}] * 2
    assert lengths(leave(waiting)) == [9, 31]


def test_what_no_bucket_holds_is_told_the_largest() -> None:
    with pytest.raises(TensorRejected, match=r"no bucket holds the sizes .*33.*the largest are .*32"):
        queue(buckets=(8, 32)).add(item(33))


def test_a_discarded_request_is_not_run() -> None:
    waiting = queue()
    gone, stays = item(8), item(8)
    fill(waiting, gone, stays)
    waiting.discard(gone)
    waiting.discard(gone)
    assert waiting.num_rows == 1
    assert leave(waiting) == [stays]


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 6), st.booleans()), max_size=40),
    st.booleans(),
    st.integers(1, 8),
)
def test_everything_accepted_leaves_once_the_oldest_first_and_within_bounds(
    wanted: list[tuple[int, int, bool]], can_pad: bool, max_batch: int
) -> None:
    waiting = queue(can_pad=can_pad, max_batch=max_batch)
    items = [item(length, rows=rows) for length, rows, _ in wanted]
    fill(waiting, *items)
    for one, (_, _, is_gone) in zip(items, wanted, strict=True):
        if is_gone:
            waiting.discard(one)
    remaining = [one for one, (_, _, is_gone) in zip(items, wanted, strict=True) if not is_gone]
    while remaining:
        assert waiting.num_rows == sum(one.rows for one in remaining)
        group = leave(waiting)
        assert remaining[0] in group
        rows = sum(one.rows for one in group)
        assert len(group) == 1 or rows <= max_batch
        total = rows * max(one.sizes["length"] for one in group)
        useful = sum(one.rows * one.sizes["length"] for one in group)
        assert total == 0 or useful / total >= 0.75
        remaining = [one for one in remaining if one not in group]
    assert leave(waiting) == []
    assert (len(waiting), waiting.num_rows) == (0, 0)


def test_what_no_bucket_holds_may_run_in_its_own_shape() -> None:
    waiting = WaitingQueue(
        SIGNATURE,
        can_pad=False,
        max_batch=8,
        max_padding=0.0,
        max_queue=99,
        buckets=[{"length": 8}],
        oversize="exact",
    )
    for length in (7, 33, 8, 33, 34):
        waiting.add(item(length))
    groups = []
    while group := waiting.next_group(0.0, max_wait_s=0.0, estimate=lambda _: 0.0):
        groups.append([(one.sizes["length"], one.target and one.target["length"]) for one in group])
    assert groups == [[(7, 8), (8, 8)], [(33, None), (33, None)], [(34, None)]]
