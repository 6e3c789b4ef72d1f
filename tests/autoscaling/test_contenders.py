"""Serve's policy waits as Serve's does; settings are checked."""

from dataclasses import replace

import pytest

from autoscaling.contenders import (
    Fixed,
    Headrace,
    Policy,
    ServeDefault,
    ServeSettings,
    Settings,
    View,
    make_policy,
)
from autoscaling.policy import Goals
from autoscaling.reports import Cost, GatewayReport
from headrace.errors import ConfigRejected

SETTINGS = Settings(Goals(1, 10, 0.5, 0.75, 60, 300), Cost(0.05, 0.006, 8), 4.0)


def asked(
    policy: Policy, ongoing: list[tuple[float, int]], until: float, start: int = 1
) -> list[tuple[float, int]]:
    """When the policy changes its mind, asked ten times a second; `ongoing` says how many from when on."""
    target, found = start, []
    for tick in range(int(until * 10)):
        now = tick / 10
        count = next(count for at, count in reversed(ongoing) if at <= now)
        wanted = min(max(policy.replicas(View(now, target, target, [], [], count)), 1), 10)
        if wanted != target:
            found.append((now, wanted))
            target = wanted
    return found


def test_serve_asks_for_more_once_more_were_wanted_for_its_delay() -> None:
    found = asked(ServeDefault(), [(0.0, 0), (60.0, 12)], 200.0)
    assert 90 < found[0][0] < 110  # half a minute after a report that tells of it
    assert found[-1][1] == 6  # two requests each


def test_serve_lets_replicas_go_after_ten_minutes() -> None:
    (at, count), *rest = asked(ServeDefault(), [(0.0, 12), (60.0, 1)], 1000.0, start=6)
    assert 660 < at < 700
    assert (count, rest) == (1, [])


def test_serve_without_delays_follows_at_once() -> None:
    policy = ServeDefault(ServeSettings(target=2, up=0, down=0, look_back=1, interval=0.2))
    found = asked(policy, [(0.0, 2), (10.0, 12), (20.0, 2)], 30.0)
    assert max(count for _, count in found) == 6
    assert found[0][0] < 11
    assert found[-1] == (pytest.approx(21, abs=1), 1)


def test_a_lull_starts_the_delay_anew() -> None:
    policy = ServeDefault(ServeSettings(look_back=1, interval=0.2))
    bursts = [(0.0, 1), (10.0, 9), (35.0, 1), (40.0, 9), (65.0, 1)]
    assert asked(policy, bursts, 100.0) == []


def test_ours_decides_as_often_as_it_is_told() -> None:
    waits = GatewayReport(0.0, 0.0, 0.0, 800.0, 800.0, 800.0, 1.0)
    policy = make_policy("headrace", replace(SETTINGS, every_s=1.0))
    assert policy.replicas(View(0.0, 1, 1, [], [], 0)) == 1
    assert policy.replicas(View(0.5, 1, 1, [waits], [], 800)) == 1
    assert policy.replicas(View(1.0, 1, 1, [waits], [], 800)) > 1


def test_policies_are_made_by_name() -> None:
    assert isinstance(make_policy("headrace:down_after_s=20", SETTINGS), Headrace)
    assert make_policy("fixed:4", SETTINGS) == Fixed(4)
    made = make_policy("serve:target=8,up=0", SETTINGS)
    assert isinstance(made, ServeDefault)
    assert made.settings == ServeSettings(target=8, up=0)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("headrase", "unknown policy 'headrase'; there are: headrace, serve, fixed; did you mean 'headrace'"),
        ("serve:targets=8", "no setting 'targets'; there are: target, .*; did you mean 'target'"),
        ("serve:target=x", "target is 'x', which is no number"),
        ("serve:target=0", "target is 0; it must be above 0"),
        ("serve:up=-1", "up is -1; it must be at least 0"),
        ("serve:look_back=inf", "look_back is inf"),
        ("headrace:utilization=2", "utilization is 2; at most 1"),
        ("fixed:none", "'none' is no number of replicas; 1 to 10000"),
        ("fixed:0", "1 to 10000"),
    ],
)
def test_what_is_wrong_is_told_with_what_is_allowed(text: str, problem: str) -> None:
    with pytest.raises(ConfigRejected, match=problem):
        make_policy(text, SETTINGS)
