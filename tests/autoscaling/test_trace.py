"""Arrivals are read with the line of what is wrong, and scaled without losing their bursts."""

import numpy as np
import pytest

from autoscaling.trace import Trace, read_trace
from headrace.errors import CallerError


def test_csv_and_json_lines_say_the_same() -> None:
    csv = read_trace("time,rows\n100.5,2\n101,\n")
    lines = read_trace('{"time": 100.5, "rows": 2}\n\n{"time": 101}\n')
    for trace in (csv, lines):
        assert trace.times.tolist() == [0.0, 0.5]
        assert trace.rows.tolist() == [2, 1]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "first line must name its columns: time"),
        ("time\n", "no requests"),
        ("rows\n1\n", "first line must name its columns"),
        ("time\n1\nx\n", "line 3 of the trace: time is 'x', which is no number"),
        ("time,rows\n1,1\n,1\n", "line 3 of the trace has no time"),
        ("time\n2\n1\n", "line 3 of the trace: time 1 comes after 2; sort"),
        ("time\nnan\n", "line 2 of the trace: time is 'nan'; it must be finite"),
        ("time,rows\n1,0\n", "line 2 of the trace: rows is 0; at least 1"),
        ("time,rows\n1,1.5\n", "rows is 1.5"),
        ('{"time": 1}\n{oops\n', "line 2 of the trace is no JSON"),
        ('{"time": 1}\n[1]\n', "line 2 of the trace is no JSON object"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, problem: str) -> None:
    with pytest.raises(CallerError, match=problem):
        read_trace(text)


def test_twice_as_fast_is_half_as_long() -> None:
    assert Trace(np.array([0.0, 1.0, 4.0])).scaled(speed=2).times.tolist() == [0.0, 0.5, 2.0]


@pytest.mark.parametrize("rate", [0.5, 3.0])
def test_more_or_fewer_requests_keep_their_bursts(rate: float) -> None:
    times = np.concatenate([np.linspace(0, 100, 200), np.linspace(100, 110, 2000)])
    scaled = Trace(times, np.ones(2200, np.int64)).scaled(rate=rate)
    assert len(scaled.times) == len(scaled.rows) == 2200 * rate
    assert (np.diff(scaled.times) >= 0).all()
    assert (scaled.times > 100).mean() == pytest.approx(2000 / 2200, abs=0.03)
