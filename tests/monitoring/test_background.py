"""Work left behind: in batches, bounded, its losses counted."""

import threading

from monitoring.background import Background


def test_items_come_in_their_order_and_in_batches() -> None:
    batches: list[list[int]] = []
    background = Background(batches.append, name="t", most_waiting=100, most_at_once=4, every_s=60)
    for number in range(10):
        background.put(number)
    background.start()
    background.close()
    assert batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert background.lost == 0


def test_a_full_batch_does_not_wait_for_its_time() -> None:
    came = threading.Event()
    background = Background(lambda _: came.set(), name="t", most_waiting=8, most_at_once=2, every_s=3600)
    background.start()
    background.put(1)
    background.put(2)
    assert came.wait(5)
    background.close()


def test_what_finds_no_room_is_lost_and_counted() -> None:
    started, may_end = threading.Event(), threading.Event()
    done: list[int] = []

    def work(batch: list[int]) -> None:
        started.set()
        assert may_end.wait(5)
        done.extend(batch)

    background = Background(work, name="t", most_waiting=3, most_at_once=1, every_s=0.001)
    background.start()
    background.put(0)
    assert started.wait(5)
    for number in range(1, 8):
        background.put(number)
    assert background.lost == 4
    may_end.set()
    background.close()
    assert done == [0, 1, 2, 3]


def test_closing_waits_no_longer_than_told() -> None:
    may_end = threading.Event()
    background = Background(lambda _: may_end.wait(5), name="t", most_waiting=3, most_at_once=1, every_s=60)
    background.start()
    background.put(0)
    background.close(0.01)
    may_end.set()


def test_a_batch_that_fails_is_lost_and_the_next_ones_are_done() -> None:
    done: list[int] = []

    def work(batch: list[int]) -> None:
        if 1 in batch:
            raise ValueError("not this one")
        done.extend(batch)

    background = Background(work, name="t", most_waiting=10, most_at_once=1, every_s=60)
    background.start()
    for number in range(3):
        background.put(number)
    background.close()
    assert done == [0, 2]
    assert background.lost == 1
