import numpy as np

from rollout.split import Chooser, Split, point_of, whole


def test_requests_without_a_key_meet_the_share_from_the_first_ones_on():
    chooser = Chooser(Split({"2": 0.05, "1": 0.95}, "salt"))
    chosen = [chooser.version() for _ in range(10_000)]
    counts = np.cumsum([version == "2" for version in chosen])
    expected = 0.05 * np.arange(1, 10_001)
    assert np.abs(counts - expected).max() <= 3
    assert counts[-1] <= 0.05 * 10_000 + 1


def test_every_second_request_alone_still_meets_the_share():
    chooser = Chooser(Split({"2": 0.25, "1": 0.75}, "salt"))
    chosen = [chooser.version() for _ in range(10_000)][::2]
    assert abs(chosen.count("2") / len(chosen) - 0.25) < 0.01


def test_a_caller_meets_the_same_version_and_only_ever_moves_to_the_candidate():
    callers = [f"user-{number}" for number in range(2_000)]
    before: set[str] = set()
    for percent in (1, 5, 25, 50, 99):
        chooser = Chooser(Split({"2": percent / 100, "1": 1 - percent / 100}, "salt"))
        there = {caller for caller in callers if chooser.version(caller) == "2"}
        assert there == {caller for caller in callers if chooser.version(caller) == "2"}
        assert before <= there
        assert abs(len(there) / len(callers) - percent / 100) < 0.03
        before = there


def test_another_rollout_begins_with_other_callers():
    first = [point_of("one", f"user-{number}") for number in range(1000)]
    second = [point_of("two", f"user-{number}") for number in range(1000)]
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.1


def test_one_version_answers_all():
    chooser = Chooser(whole("7"))
    assert {chooser.version(key) for key in ("", "a", "b")} == {"7"}
    assert chooser.copies_to() is None


def test_copies_are_a_share_of_the_requests():
    chooser = Chooser(Split({"1": 1.0}, "salt", ("2", 0.1)))
    copies = [chooser.copies_to() for _ in range(1000)]
    assert abs(copies.count("2") - 100) <= 3
    assert chooser.version() == "1"


def test_shares_that_do_not_quite_make_one_choose_the_last():
    assert Split({"2": 0.1, "1": 0.9 - 1e-9}).at(1 - 1e-12) == "1"
