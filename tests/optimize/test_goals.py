import math

import pytest

from headrace.errors import ConfigRejected
from optimize.goals import Goals, judge, parse_goal, parse_goals
from optimize.measure import Measured

BEFORE = Measured(size_bytes=100, latency_ms=10.0, accuracy=0.978)
STRICT = Goals(max_drop=0.01, min_speedup=1.5, max_size=0.3)


def test_goals_are_read_from_texts():
    assert parse_goals(["max_drop=0.01", " min_speedup = 1.5"]) == Goals(max_drop=0.01, min_speedup=1.5)
    assert parse_goals([]) == Goals()


@pytest.mark.parametrize("text", ["", "max_drop", "speed=2", "max_drop:1"])
def test_an_unknown_goal_is_answered_with_those_there_are(text):
    with pytest.raises(ConfigRejected, match="max_drop=NUMBER, min_speedup=NUMBER, max_size=NUMBER"):
        parse_goal(text)


@pytest.mark.parametrize("value", ["", "one", "nan", "inf", "-1", "1%"])
def test_a_goal_needs_a_number(value):
    with pytest.raises(ConfigRejected, match=r"max_drop.*number"):
        parse_goal(f"max_drop={value}")


def test_a_goal_is_given_once():
    with pytest.raises(ConfigRejected, match="twice"):
        parse_goals(["max_drop=1", "max_drop=2"])


def test_a_version_on_its_limits_is_good_enough():
    after = Measured(size_bytes=30, latency_ms=10.0 / 1.5, accuracy=0.968)
    assert judge(STRICT, BEFORE, after) == []


def test_every_goal_that_was_missed_is_told():
    after = Measured(size_bytes=31, latency_ms=8.0, accuracy=0.9)
    misses = judge(STRICT, BEFORE, after)
    assert [miss.goal for miss in misses] == ["max_drop", "min_speedup", "max_size"]
    assert str(misses[1]) == "min_speedup: wanted 1.5, reached 1.25"


def test_without_goals_nothing_is_missed():
    assert judge(Goals(), BEFORE, Measured(size_bytes=1000, latency_ms=99.0, accuracy=0.0)) == []


def test_an_accuracy_that_is_no_number_misses():
    after = Measured(size_bytes=1, latency_ms=1.0, accuracy=math.nan)
    assert [miss.goal for miss in judge(STRICT, BEFORE, after)] == ["max_drop"]
