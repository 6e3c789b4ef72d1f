"""What can be typed; what it does is tested on the real server (test_rollouts)."""

from __future__ import annotations

import pytest

from deployments.rollout_cli import percents, seconds, shares
from headrace.errors import ConfigRejected


@pytest.mark.parametrize(
    ("text", "wanted"), [("30", 30.0), ("30s", 30.0), ("1.5m", 90.0), ("2h", 7200.0), ("1d", 86400.0)]
)
def test_times_have_units(text: str, wanted: float) -> None:
    assert seconds(text) == wanted


@pytest.mark.parametrize("text", ["", "s", "-5s", "5 weeks", "1h30m", "soon"])
def test_what_is_no_time_is_refused_with_what_one_looks_like(text: str) -> None:
    with pytest.raises(ConfigRejected, match="30s, 5m, 1h or 2d"):
        seconds(text)


def test_steps_are_percents() -> None:
    assert percents("1, 5%,25 ,100") == [1.0, 5.0, 25.0, 100.0]
    with pytest.raises(ConfigRejected, match="1,5,25,50,100"):
        percents("1,five")


def test_variants_have_shares() -> None:
    assert shares("1=50, 3=50%") == {"1": 50.0, "3": 50.0}
    with pytest.raises(ConfigRejected, match="1=50,3=50"):
        shares("1,3")
