"""How many calls are worth having under way."""

from deployments import running


def test_two_calls_for_each_replica_and_one_that_wakes_what_sleeps() -> None:
    assert running.max_calls("headrace:unknown:1") == 1
    running.note("headrace:some:1", 4)
    assert running.max_calls("headrace:some:1") == 8
    running.note("headrace:some:1", 0)
    assert running.max_calls("headrace:some:1") == 1
