"""Starts share the cores: alone each takes its time, together they take longer."""

import math

import pytest

from autoscaling.starts import Starting, Starts
from headrace.errors import CallerError


def ends(starts: Starts, begun: list[float]) -> list[float]:
    """When starts are done that begin at these times."""
    starting, found = Starting(starts), []
    for at in begun:
        while starting.next_at() <= at:
            found.append(starting.next_at())
            starting.end(found[-1])
        starting.begin(at)
    while starting:
        found.append(starting.next_at())
        starting.end(found[-1])
    return found


def test_each_takes_what_was_measured_in_turn() -> None:
    assert ends(Starts((3.0, 4.0)), [0.0, 0.0, 10.0]) == [3.0, 4.0, 13.0]


def test_a_start_takes_what_those_took_that_were_measured_then() -> None:
    starts = Starts((3.0, 4.0, 9.0), began=(0.0, 0.5, 60.0))
    assert ends(starts, [0.2, 0.2, 58.0]) == pytest.approx([3.2, 4.2, 67.0])


def test_more_than_there_are_cores_share_them() -> None:
    assert ends(Starts((3.0,), cores=2), [0.0, 0.0]) == [3.0, 3.0]
    assert ends(Starts((3.0,), cores=2), [0.0] * 6) == pytest.approx([9.0] * 6)


def test_one_that_comes_later_slows_down_those_before() -> None:
    assert ends(Starts((4.0,), cores=1), [0.0, 2.0]) == pytest.approx([6.0, 8.0])


def test_the_latest_is_given_up_first() -> None:
    starting = Starting(Starts((4.0,), cores=1))
    first = starting.begin(0.0)
    starting.begin(2.0)
    assert starting.cancel(3.0) != first
    assert starting.next_at() == pytest.approx(4.5)  # it had half the core for a second
    assert starting.end(4.5) == first
    assert starting.next_at() == math.inf


@pytest.mark.parametrize("wrong", [{"seconds": ()}, {"seconds": (-1.0,)}, {"cores": 0.0}, {"stop_s": -1.0}])
def test_what_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(CallerError, match="at least 0 s"):
        Starts(**wrong)  # type: ignore[arg-type]
