"""Where the versions lie on the plane of latency and accuracy; nothing is drawn here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from optimize.plot_axis import Axis, axis_for, axis_from_zero
from optimize.plot_labels import Box
from optimize.report import Report, Row

_LEFT, _RIGHT, _TOP, _BOTTOM = 58.0, 12.0, 66.0, 46.0  # margins, in pixels
_EDGE = 12.0  # how far above the lower edge a version is drawn that lies below it
_OFF_RADIUS = 7.0  # what such a version takes up
_LOG_FROM = 12.0  # the slowest against the fastest from which latency is drawn on a log scale
_FAR = 4.0  # a gap this many times as high as all that lies above it is cut away


@dataclass(frozen=True, slots=True)
class Point:
    """A measured version on the plane, in pixels."""

    row: Row
    number: int  # in the table of versions
    x: float
    y: float
    radius: float
    is_off: bool  # below the lowest accuracy that is drawn

    @property
    def latency_ms(self) -> float:
        assert self.row.measured is not None
        return self.row.measured.latency_ms

    @property
    def accuracy(self) -> float:
        assert self.row.measured is not None
        return self.row.measured.accuracy


@dataclass(frozen=True, slots=True)
class Plane:
    """Where everything lies."""

    box: Box
    across: Axis  # milliseconds
    upwards: Axis  # accuracy
    points: tuple[Point, ...]
    largest: float  # radius of the largest version
    largest_bytes: int


def plane(report: Report, width: float, height: float) -> Plane:
    """Circles lie inside the plot as a whole; their area is proportional to the size of the version."""
    box = Box(_LEFT, _TOP, width - _RIGHT, height - _BOTTOM)
    largest = 26.0 if width > 500 else 18.0
    rows = [(number, row) for number, row in enumerate((report.original, *report.candidates)) if row.measured]
    measured = [row.measured for _, row in rows if row.measured]
    lowest = lowest_drawn([row for _, row in rows])
    drawn = [found.accuracy for found in measured if found.accuracy >= lowest]
    floor = accuracy_goal(report)
    times = [found.latency_ms for found in measured]
    is_log = max(times) / min(times) > _LOG_FROM
    inset = largest + 4
    across = (
        axis_for(times, box.left, box.right, inset, is_log=True)
        if is_log
        else axis_from_zero(times, box.left, box.right, inset)
    )
    upwards = axis_for([*drawn, *([] if floor is None else [floor])], box.bottom, box.top, inset)
    largest_bytes = max(found.size_bytes for found in measured)
    points = []
    for (number, row), found in zip(rows, measured, strict=True):
        is_off = found.accuracy < lowest
        y = box.bottom - _EDGE if is_off else upwards.at(found.accuracy)
        radius = _OFF_RADIUS if is_off else largest * math.sqrt(found.size_bytes / largest_bytes)
        points.append(Point(row, number, across.at(found.latency_ms), y, radius, is_off))
    return Plane(box, across, upwards, tuple(points), largest, largest_bytes)


def front(points: Iterable[Point]) -> list[Point]:
    """The points that no other beats in both latency and accuracy, fastest first."""
    found: list[Point] = []
    for point in sorted(points, key=lambda point: (point.latency_ms, -point.accuracy)):
        if not found or point.accuracy > found[-1].accuracy:
            found.append(point)
    return found


def accuracy_goal(report: Report) -> float | None:
    """The least accuracy that the goals allow."""
    goals = report.goals
    floors = [] if goals.min_accuracy is None else [goals.min_accuracy]
    if goals.max_drop is not None:
        floors.append(report.before.measured.accuracy - goals.max_drop)
    return max(floors, default=None)


def latency_goal(report: Report) -> float | None:
    """The greatest latency that the goals allow; for a speedup, as the original was measured first."""
    goals = report.goals
    limits = [] if goals.max_latency_ms is None else [goals.max_latency_ms]
    if goals.min_speedup:
        limits.append(report.before.measured.latency_ms / goals.min_speedup)
    return min(limits, default=None)


def lowest_drawn(rows: Sequence[Row]) -> float:
    """Far below the others, a spoilt version would press them together: it is drawn at the edge."""
    kept = [row.measured.accuracy for row in rows if row.measured and row.status in ("original", "chosen")]
    found = sorted({row.measured.accuracy for row in rows if row.measured})
    for low, high in pairwise(found):
        span = max(found[-1] - high, abs(found[-1]) / 100)
        if high <= min(kept, default=found[0]) and high - low > _FAR * span:
            return high
    return found[0]
