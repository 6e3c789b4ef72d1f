"""Second attempts stay a fifth of the requests."""

from deployments.retries import RetryBudget


def test_a_fifth_of_the_requests_may_be_tried_again() -> None:
    budget = RetryBudget()
    while budget.take():
        pass
    budget.earn(50)
    assert [budget.take() for _ in range(11)] == [True] * 10 + [False]


def test_what_a_quiet_day_leaves_is_bounded() -> None:
    budget = RetryBudget()
    budget.earn(1_000_000)
    assert sum(budget.take() for _ in range(1000)) == 100
