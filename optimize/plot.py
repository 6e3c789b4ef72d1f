"""Accuracy against latency as an SVG: area tells the size, a step line the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

from optimize import report_words as words
from optimize.page_markup import Html, join, tag
from optimize.plot_labels import Box, Label, place
from optimize.plot_plane import Plane, Point, accuracy_goal, front, latency_goal, plane
from optimize.report import Report

_MARK = 3.5  # half the width of the mark in the middle of a circle
_LONGEST = 30  # characters of a label
_ORDER = {"chosen": 0, "original": 1, "good": 2, "missed": 3}  # who is labelled first


def pareto(report: Report, width: int, height: int, class_: str) -> Html:
    """The plot, `width` by `height` pixels; every version is described for those who do not see it."""
    drawn = plane(report, width, height)
    points = sorted(drawn.points, key=lambda point: -point.radius)  # small ones in front
    return tag(
        "svg",
        tag("title", f"{report.model}: accuracy against latency", id=f"{class_}-title"),
        tag("desc", _description(drawn.points), id=f"{class_}-desc"),
        *_goal_area(report, drawn),
        *_frame(drawn),
        *_size_key(drawn),
        _front_line(drawn),
        *(_circle(report, point) for point in points),
        *_labels(report, drawn),
        class_=f"plot {class_}",
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_labelledby=f"{class_}-title {class_}-desc",
    )


def mark(status: str, x: float, y: float) -> Html:
    """The shape in the middle of a circle, which tells what became of a version without colour."""
    a = _MARK
    paths = {
        "original": f"M{x - a:.2f} {y - a:.2f}h{2 * a}v{2 * a}h{-2 * a}z",
        "chosen": _star(x, y, 2 * a),
        "good": f"M{x - a:.2f} {y:.2f}a{a} {a} 0 1 0 {2 * a} 0a{a} {a} 0 1 0 {-2 * a} 0",
        "missed": f"M{x - a:.2f} {y - a:.2f}l{2 * a} {2 * a}m0 {-2 * a}l{-2 * a} {2 * a}",
    }
    return tag("path", class_="mark", d=paths.get(status, paths["missed"]))


def downwards(x: float, y: float) -> Html:
    """What stands at the lower edge for a version below it."""
    a = _MARK
    return tag("path", class_="mark", d=f"M{x - a:.2f} {y - a / 2:.2f}h{2 * a}l{-a} {2 * a}z")


def _description(points: Sequence[Point]) -> str:
    best = {point.number for point in front(points)}
    return " ".join(
        f"{_told(point)}{', on the Pareto front' if point.number in best else ''}." for point in points
    )


def _told(point: Point) -> str:
    measured = point.row.measured
    assert measured is not None
    return (
        f"{words.on_engine(point.row)}, {point.row.status}: "
        f"{words.ms(measured.latency_ms)}, accuracy {measured.accuracy:.4f}, "
        f"{words.size(measured.size_bytes)}"
    )


def _frame(drawn: Plane) -> Iterable[Html]:
    """Grid, ticks and the names of the axes."""
    box, across, upwards = drawn.box, drawn.across, drawn.upwards
    for value, text in upwards.ticks(most=6):
        y = upwards.at(value)
        yield tag("line", class_="grid", x1=box.left, y1=y, x2=box.right, y2=y)
        yield tag("text", text, class_="tick", x=box.left - 8, y=y + 4, text_anchor="end")
    for value, text in across.ticks(most=int((box.right - box.left) / 64)):
        x = across.at(value)
        yield tag("line", class_="grid", x1=x, y1=box.top, x2=x, y2=box.bottom)
        yield tag("text", text, class_="tick", x=x, y=box.bottom + 18, text_anchor="middle")
    scale = ", log scale" if across.is_log else ""
    yield tag("line", class_="axis", x1=box.left, y1=box.bottom, x2=box.right, y2=box.bottom)
    yield tag("text", "accuracy", class_="name", x=4.0, y=box.top - 14)
    yield tag(
        "text",
        f"latency of one row, ms{scale}",
        class_="name",
        x=box.right,
        y=box.bottom + 38,
        text_anchor="end",
    )


def _size_key(drawn: Plane) -> Iterable[Html]:
    """Two circles whose sizes are written beside them."""
    x, base = drawn.box.right, drawn.box.top - 10
    for share in (0.25, 1.0):
        radius = drawn.largest * math.sqrt(share)
        text = words.size(drawn.largest_bytes * share)
        x -= 8 + 7.0 * len(text)
        yield tag("text", text, class_="tick", x=x + 6, y=base - 4)
        x -= radius
        yield tag("circle", class_="key", cx=x, cy=base - radius, r=radius)
        x -= radius + 10
    yield tag("text", "size:", class_="tick", x=x + 2, y=base - 4, text_anchor="end")


def _goal_area(report: Report, drawn: Plane) -> Iterable[Html]:
    """The part of the plot that the goals for accuracy and latency allow."""
    floor, limit = accuracy_goal(report), latency_goal(report)
    if floor is None and limit is None:
        return
    box = drawn.box
    bottom = box.bottom if floor is None else min(max(drawn.upwards.at(floor), box.top), box.bottom)
    right = box.right if limit is None else min(max(drawn.across.at(limit), box.left), box.right)
    size = {"width": right - box.left, "height": bottom - box.top}
    yield tag("rect", class_="goal", x=box.left, y=box.top, **size)


def _front_corners(drawn: Plane) -> list[tuple[float, float]]:
    """The best accuracy that can be had within each latency, from corner to corner."""
    best = front(point for point in drawn.points if not point.is_off)
    corners = [(best[0].x, drawn.box.bottom), (best[0].x, best[0].y)]
    for last, point in pairwise(best):
        corners += [(point.x, last.y), (point.x, point.y)]
    return [*corners, (drawn.box.right, best[-1].y)]


def _front_line(drawn: Plane) -> Html:
    return tag("path", class_="front", d="M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in _front_corners(drawn)))


def _circle(report: Report, point: Point) -> Html:
    if point.is_off:
        shape = downwards(point.x, point.y)
    else:
        circle = tag("circle", class_="area", cx=point.x, cy=point.y, r=point.radius)
        shape = join(circle, mark(point.row.status, point.x, point.y))
    told = tag("title", _told(point))
    return tag("g", told, shape, class_=f"point {point.row.status}", data_number=point.number)


def _labels(report: Report, drawn: Plane) -> Iterable[Html]:
    points = sorted(drawn.points, key=lambda point: (_ORDER.get(point.row.status, 4), -point.accuracy))
    wanted = [
        Label(
            text=_name(report, point),
            short=f"{point.number}{_off(point)}",
            x=point.x,
            y=point.y,
            radius=point.radius,
            is_bold=point.row.status == "chosen",
        )
        for point in points
    ]
    lines = [
        Box(min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
        for (x1, y1), (x2, y2) in pairwise(_front_corners(drawn))
    ]
    for label in place(wanted, drawn.box, lines):
        assert label.box is not None
        text = tag("text", label.shown, x=label.text_x, y=label.box.bottom - 4, text_anchor=label.anchor)
        parts = [text] if label.leader is None else [_line(*label.leader), text]
        if any(label.box.covers(line) for line in lines):
            parts.insert(0, _behind(label.box))
        yield tag("g", *parts, class_="label bold" if label.is_bold else "label")


def _behind(box: Box) -> Html:
    size = {"width": box.right - box.left, "height": box.bottom - box.top}
    return tag("rect", class_="behind", x=box.left, y=box.top, **size)


def _name(report: Report, point: Point) -> str:
    name = words.name(report, point.row)
    shown = name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
    return f"{point.number} {shown}{_off(point)}"


def _off(point: Point) -> str:
    return f": {point.accuracy:.4f}" if point.is_off else ""


def _line(x1: float, y1: float, x2: float, y2: float) -> Html:
    return tag("line", class_="leader", x1=x1, y1=y1, x2=x2, y2=y2)


def _star(x: float, y: float, radius: float) -> str:
    corners = []
    for number in range(10):
        reach = radius if number % 2 == 0 else radius * 0.42
        angle = math.pi * (number / 5 - 0.5)
        corners.append(f"{x + reach * math.cos(angle):.2f} {y + reach * math.sin(angle):.2f}")
    return f"M{'L'.join(corners)}z"
