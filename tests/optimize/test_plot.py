from dataclasses import replace
from itertools import combinations

import pytest

from optimize.goals import Goals
from optimize.plot import pareto
from optimize.plot_axis import axis_for, axis_from_zero
from optimize.plot_labels import Box, Label, place
from optimize.plot_plane import accuracy_goal, front, latency_goal, lowest_drawn, plane
from tests.optimize import samples


def _with(*figures):
    rows = tuple(samples.row(f"v{n}", "missed", (1_000_000, *found)) for n, found in enumerate(figures))
    return replace(samples.small(), candidates=rows)


def test_the_front_holds_what_nothing_beats_in_both():
    report = _with((1.0, 0.8), (2.0, 0.7), (2.0, 0.85), (3.0, 0.85), (5.0, 0.861))
    names = [point.row.name for point in front(plane(report, 960, 460).points)]
    assert names == ["v0", "v2", "fp32"]


def test_a_version_far_below_the_others_is_drawn_at_the_edge():
    drawn = plane(samples.missed(), 960, 460)
    off = [point for point in drawn.points if point.is_off]
    assert [point.row.name for point in off] == ["int8-static per-tensor"]
    assert off[0].y < drawn.box.bottom
    assert drawn.upwards.low > 0.8
    assert "1 int8-static per-tensor: 0.3100" in pareto(samples.missed(), 960, 460, "wide")


def test_neither_the_original_nor_the_chosen_version_is_cut_away():
    worse = replace(samples.CHOSEN, measured=replace(samples.CHOSEN.measured, accuracy=0.2))
    near = samples.row("near", "good", (1_000_000, 2.0, 0.861))
    assert lowest_drawn([samples.ORIGINAL, worse, near]) == 0.2
    better = [samples.row(f"v{n}", "good", (1_000_000, 2.0, 0.99)) for n in range(2)]
    assert lowest_drawn([samples.ORIGINAL, *better]) == samples.ORIGINAL.measured.accuracy


@pytest.mark.parametrize(
    ("goals", "floor", "limit"),
    [
        (Goals(), None, None),
        (Goals(max_drop=0.01), 0.851, None),
        (Goals(max_drop=0.01, min_accuracy=0.86), 0.86, None),
        (Goals(min_speedup=2), None, 2.0),
        (Goals(min_speedup=2, max_latency_ms=1.5), None, 1.5),
        (Goals(min_speedup=0), None, None),
    ],
)
def test_goals_bound_accuracy_and_latency(goals, floor, limit):
    report = replace(samples.small(), goals=goals)
    assert accuracy_goal(report) == (floor and pytest.approx(floor))
    assert latency_goal(report) == (limit and pytest.approx(limit))


@pytest.mark.parametrize(
    "report",
    [
        _with((4.0, 0.861)),  # both at one point
        _with((4.0, 0.0)),
        _with((0.001, 0.861), (4000.0, 0.2)),
        _with((3.9, 0.8611), (4.1, 0.8609)),
        replace(samples.small(), candidates=()),
        replace(_with((1.0, -3.0)), goals=Goals(max_drop=0.0, min_speedup=1e6)),
        samples.large(),
    ],
)
@pytest.mark.parametrize("size", [(960, 460), (360, 380)])
def test_circles_stay_inside_whatever_the_figures(report, size):
    drawn = plane(report, *size)
    for point in drawn.points:
        circle = Box(
            point.x - point.radius, point.y - point.radius, point.x + point.radius, point.y + point.radius
        )
        assert drawn.box.holds(circle)
    assert len(drawn.across.ticks(10)) >= 2
    assert len(drawn.upwards.ticks(6)) >= 2
    assert "nan" not in pareto(report, *size, "wide")


def test_ticks_are_round_and_as_exact_as_they_need_to_be():
    assert [text for _, text in axis_from_zero([1.6, 4.0], 0, 900, 30).ticks(10)] == [
        "0.0", "0.5", "1.0", "1.5", "2.0", "2.5", "3.0", "3.5", "4.0",
    ]  # fmt: skip
    assert [text for _, text in axis_for([0.861, 0.8605], 300, 0, 30).ticks(6)] == [
        "0.8606", "0.8608", "0.8610",
    ]  # fmt: skip
    assert [text for _, text in axis_for([1.6, 90.0], 0, 900, 30, is_log=True).ticks(10)] == [
        "2", "5", "10", "20", "50", "100",
    ]  # fmt: skip


def test_an_axis_begins_at_zero_unless_that_presses_the_values_together():
    assert axis_from_zero([1.0, 4.0], 0, 900, 30).low == 0
    assert axis_from_zero([17.0, 20.0], 0, 900, 30).low > 10
    assert axis_from_zero([4.0], 0, 900, 30).low == 0


def test_labels_are_apart_and_the_last_of_a_crowd_are_numbers():
    crowd = [Label(f"{n} a rather long name", str(n), 200 + 9 * n, 150 + 4 * (n % 3), 12) for n in range(12)]
    within = Box(0, 0, 400, 300)
    placed = place(crowd, within)
    assert placed[0].shown == crowd[0].text
    assert {label.shown for label in placed} & {label.short for label in crowd}
    free = [label.box for label in placed if within.holds(label.box)]
    beside = [box for box in free if not any(box.covers_circle(c.x, c.y, c.radius) for c in crowd)]
    assert len(beside) > 6
    assert not any(one.covers(other) for one, other in combinations(beside, 2))


def test_a_label_with_no_room_at_all_sits_on_its_circle():
    (placed,) = place([Label("1 name", "1", 10, 10, 9)], Box(0, 0, 20, 20))
    assert placed.shown == "1"
    assert (placed.text_x, placed.anchor) == (10, "middle")


def test_a_far_label_is_led_to_by_a_line():
    blockers = [Label(f"{n}", f"{n}", 100 + dx, 100 + dy, 14) for n, (dx, dy) in enumerate(
        [(30, 0), (-30, 0), (0, 30), (0, -30), (22, 22), (-22, 22), (22, -22), (-22, -22)]
    )]  # fmt: skip
    *_, placed = place([*blockers, Label("far", "f", 100, 100, 6)], Box(0, 0, 200, 200))
    assert placed.shown == "far"
    assert placed.leader is not None
