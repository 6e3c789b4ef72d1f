from __future__ import annotations

import itertools

import numpy as np
import pytest

from monitoring.history import POINT_S, SPAN_S, WINDOW_S, History
from monitoring.process import Process
from monitoring.recorder import Seconds
from monitoring.slots import Slot
from monitoring.told import Told, Waiting

NAMED = ("m", "1")
PROCESS = Process("here", 1, 0.0, 1, 1)
NOTHING = (0.0,) * 7


def told(id: str, now: float, slots: dict[int, Slot], rows: int = 0) -> Told:
    return Told(id, "gateway", now, slots, {NAMED: Waiting(rows, 0.0)}, PROCESS)


def run(history: History, gateways: dict[str, Seconds], now: float) -> None:
    since = history.since(now)
    history.take([told(id, now, seconds.since(since, now)) for id, seconds in gateways.items()], now)


def test_percentiles_of_many_processes_are_those_of_all_requests() -> None:
    rng = np.random.default_rng(7)
    history, gateways = History(), {str(number): Seconds() for number in range(5)}
    everything: list[float] = []
    for now in range(1000, 1000 + WINDOW_S):
        for number, seconds in enumerate(gateways.values()):
            seconds.tick(now)
            for value in rng.lognormal(-5 + number / 3, 0.8, 20):  # each with a distribution of its own
                seconds.answered(NAMED, "off", 1, 0.0, NOTHING, value)
                everything.append(value)
        run(history, gateways, now + 1)
    whole, seconds_s = history.window()
    assert seconds_s == WINDOW_S
    for share in (0.5, 0.95, 0.99, 0.999):
        exact = float(np.quantile(everything, share, method="inverted_cdf"))
        assert whole.answers[NAMED].latency.quantile(share) == pytest.approx(exact, rel=0.0101)


def test_each_second_counts_once_however_often_it_is_told() -> None:
    history, seconds = History(), Seconds()
    for now in range(1000, 1010):
        seconds.tick(now)
        seconds.answered(NAMED, "off", 1, 0.0, NOTHING, 0.01)
        for _ in range(3):
            history.take([told("a", now + 1, seconds.since(0, now + 1))], now + 1)
    whole, seconds_s = history.window()
    assert whole.answers[NAMED].count == 10
    assert seconds_s == 10  # a server that is younger than the window is told by what there was


def test_old_seconds_leave_the_window() -> None:
    history, gateways = History(), {"a": Seconds()}
    for now in range(1000, 1200):
        gateways["a"].tick(now)
        if now < 1100:
            gateways["a"].answered(NAMED, "off", 1, 0.0, NOTHING, 0.01)
        run(history, gateways, now + 1)
    assert history.window()[0].answers == {}


def test_points_are_a_line_without_gaps_and_of_bounded_length() -> None:
    history, gateways = History(), {"a": Seconds(), "b": Seconds()}
    for now in range(1000, 2000):
        for seconds in gateways.values():
            seconds.tick(now)
            seconds.answered(NAMED, "off", 1, 0.0, NOTHING, 0.01)
        run(history, gateways, now + 1)
    points = history.points()
    assert len(points) == SPAN_S // POINT_S
    assert {later.start - point.start for point, later in itertools.pairwise(points)} == {POINT_S}
    assert points[-1].versions[NAMED].requests_per_s == 2.0
    assert points[-1].start + POINT_S <= 2000 < points[-1].start + 2 * POINT_S


def test_a_process_that_is_gone_does_not_stop_the_line() -> None:
    history, gateways = History(), {"a": Seconds(), "b": Seconds()}
    for now in range(1000, 1040):
        for seconds in gateways.values():
            seconds.tick(now)
            seconds.answered(NAMED, "off", 1, 0.0, NOTHING, 0.01)
        if now == 1010:
            del gateways["b"]
        run(history, gateways, now + 1)
    assert history.points()[-1].start >= 1030
    assert history.points()[-1].versions[NAMED].requests_per_s == 1.0


def test_a_reader_that_starts_anew_is_told_the_last_window() -> None:
    seconds = Seconds()
    for now in range(1000, 1200):
        seconds.tick(now)
        seconds.answered(NAMED, "off", 1, 0.0, NOTHING, 0.01)
    history = History()
    run(history, {"a": seconds}, 1200)
    whole, seconds_s = history.window()
    assert whole.answers[NAMED].count / seconds_s == 1.0
    assert seconds_s == WINDOW_S
    assert len(history.points()) == WINDOW_S // POINT_S


def test_waiting_rows_of_all_processes_add_up() -> None:
    history = History()
    for now in range(1000, 1011):
        history.take([told("a", now, {}, 3), told("b", now, {}, 4)], now)
    assert history.points()[-1].waiting == {NAMED: 7}


def test_a_gap_in_which_nobody_looked_leaves_no_endless_work() -> None:
    history = History()
    history.take([told("a", 1000.0, {})], 1000.0)
    history.take([told("a", 900_000.0, {})], 900_000.0)
    assert len(history.points()) <= SPAN_S // POINT_S
    assert history.points()[-1].start > 899_900


@pytest.mark.parametrize("silent", [("a",), ("a", "b")])
def test_seconds_of_a_process_that_was_silent_count_once_when_it_is_back(silent: tuple[str, ...]) -> None:
    history, gateways = History(), {"a": Seconds(), "b": Seconds()}
    for now in range(1000, 1050):
        for seconds in gateways.values():
            seconds.tick(now)
            seconds.answered(NAMED, "off", 1, 0.0, NOTHING, 0.01)
        is_silent = 1010 <= now < 1035
        run(history, {id: one for id, one in gateways.items() if not (is_silent and id in silent)}, now + 1)
    whole, seconds_s = history.window()
    assert seconds_s == 50
    assert whole.answers[NAMED].count == 100


def test_who_is_gone_for_good_does_not_have_the_others_tell_all_again() -> None:
    history, gateways = History(), {"a": Seconds(), "b": Seconds()}
    for now in range(1000, 1030):
        for seconds in gateways.values():
            seconds.tick(now)
        if now == 1010:
            del gateways["b"]
        run(history, gateways, now + 1)
    assert history.since(1031) == 1030
