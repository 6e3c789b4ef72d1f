"""Who may wait, and for how long: 100 ms a batch of any size, two of them at a time unless said otherwise."""

import math

import numpy as np
import pytest

from batching.admission import Admission
from batching.execute import Batch
from batching.queue import DEFAULT_LEVEL, Item, WaitingQueue
from batching.service import ServiceTime
from headrace.errors import DeadlinePassed, Overloaded
from headrace.tensors import Signature, TensorSpec

SIGNATURE = Signature(
    (TensorSpec("ids", "INT64", ("batch", "length")),), (TensorSpec("y", "FP32", ("batch", "length")),)
)
BASE = ServiceTime([(8.0, 0.1), (80.0, 0.1)])
BY_LENGTH = ServiceTime([(8.0, 0.1), (80.0, 1.0)])


class Line:
    def __init__(self, service: ServiceTime, max_batch: int = 2, max_queue: int = 99, permits: int = 2):
        self.queue = WaitingQueue(
            SIGNATURE, can_pad=True, max_batch=max_batch, max_padding=0.25, max_queue=max_queue
        )
        self.admission = Admission(self.queue, service, max_batch=max_batch, permits=permits)

    def wait(self, *priorities: int) -> list[Item]:
        items = [
            Item({"ids": np.zeros((1, 8), np.int64)}, (), {"batch": 1, "length": 8}, 1, 0.0, 9.0, None, level)
            for level in priorities
        ]
        for item in items:
            self.queue.add(item)
        return items

    def ask(
        self, left_s: float | None, priority: int = DEFAULT_LEVEL, rows: int = 1, free_in_s: float = 0.05
    ) -> float:
        deadline = None if left_s is None else 100.0 + left_s
        sizes = {"batch": rows, "length": 8}
        return self.admission.expected_wait_s(sizes, deadline, priority, 100.0, free_in_s)


def test_the_wait_is_that_of_what_runs_and_of_the_batches_before_spread_over_the_engines() -> None:
    line = Line(BASE)
    line.wait(*[DEFAULT_LEVEL] * 8)
    assert line.ask(left_s=10.0) == pytest.approx(0.05 + 4 * 0.1 / 2)


def test_only_those_that_go_before_count() -> None:
    line = Line(BASE)
    line.wait(*[DEFAULT_LEVEL] * 8, 1, 1)
    assert line.ask(left_s=10.0, priority=1) == pytest.approx(0.05 + 0.1 / 2)


def test_padding_of_late_batches_counts_as_work() -> None:
    line = Line(BY_LENGTH)
    line.wait(*[DEFAULT_LEVEL] * 8)
    full = line.ask(left_s=10.0)
    for _ in range(100):
        line.admission.ran(Batch("16", 2, 8, 16, 0.1))
    assert line.ask(left_s=10.0) == pytest.approx(0.05 + 2 * (full - 0.05), rel=0.01)


def test_without_a_deadline_whoever_finds_room_comes_in() -> None:
    line = Line(BASE, max_queue=3)
    line.wait(DEFAULT_LEVEL, DEFAULT_LEVEL)
    assert line.ask(left_s=None) == 0.0
    line.wait(DEFAULT_LEVEL)
    with pytest.raises(Overloaded, match="3 requests are waiting already") as refused:
        line.ask(left_s=None)
    assert refused.value.retry_after_s == pytest.approx(0.05 + 2 * 0.1 / 2)


def test_who_would_be_answered_too_late_is_told_when_to_come_again() -> None:
    line = Line(BASE)
    line.wait(*[DEFAULT_LEVEL] * 8)
    with pytest.raises(Overloaded, match="after the request's timeout") as refused:
        line.ask(left_s=0.3)
    assert refused.value.retry_after_s == pytest.approx(0.25)


def test_a_timeout_below_its_own_time_is_not_a_matter_of_load() -> None:
    with pytest.raises(DeadlinePassed, match=r"takes about 0\.100 s by itself; 0\.050 s were left"):
        Line(BASE).ask(left_s=0.05)


def test_who_need_not_wait_comes_in_however_little_time_is_left() -> None:
    assert Line(BASE).ask(left_s=0.11, free_in_s=0.0) == 0.0


def test_rows_that_need_batches_of_their_own_count() -> None:
    line = Line(BASE)
    assert line.ask(left_s=0.3, rows=2) == pytest.approx(0.05)
    with pytest.raises(Overloaded):
        line.ask(left_s=0.3, rows=8)


def test_where_waits_come_out_longer_than_expected_fewer_are_let_in() -> None:
    line = Line(BASE)
    (item,) = line.wait(DEFAULT_LEVEL)
    item.expected_wait_s = 4.0
    line.wait(*[DEFAULT_LEVEL] * 7)
    line.ask(left_s=0.5)
    for _ in range(20):
        line.admission.waited(item, 6.0)
    with pytest.raises(Overloaded):
        line.ask(left_s=0.5)


@pytest.mark.parametrize(("expected_s", "deadline"), [(1.0, 9.0), (4.0, None)], ids=["short", "no-deadline"])
def test_a_wait_that_could_not_become_too_long_teaches_nothing(
    expected_s: float, deadline: float | None
) -> None:
    line = Line(BASE)
    (item,) = line.wait(DEFAULT_LEVEL)
    item.expected_wait_s, item.deadline = expected_s, deadline
    line.wait(*[DEFAULT_LEVEL] * 7)
    for _ in range(20):
        line.admission.waited(item, math.inf)
    assert line.ask(left_s=0.5) > 0.0


def test_what_a_usual_request_adds_follows_the_requests_that_come() -> None:
    line = Line(ServiceTime([(8.0, 0.1), (80.0, 0.28)]), max_batch=4)  # 0.08 and 0.0025 for each element
    assert line.admission.usual_s() == 0.0  # none has come
    for item in line.wait(*[DEFAULT_LEVEL] * 3):
        line.admission.came(item)
    assert line.admission.usual_s() == pytest.approx((0.08 / 4 + 8 * 0.0025) / 2)
    for item in line.wait(*[DEFAULT_LEVEL] * 200):
        item.rows, item.length = 2, 16
        line.admission.came(item)
    assert line.admission.usual_s() == pytest.approx((0.08 / 2 + 32 * 0.0025) / 2, rel=0.01)


def test_where_only_one_size_is_known_nobody_knows_what_many_would_take() -> None:
    line = Line(ServiceTime([(8.0, 0.1)]))
    for item in line.wait(DEFAULT_LEVEL):
        line.admission.came(item)
    assert line.admission.usual_s() == 0.0
