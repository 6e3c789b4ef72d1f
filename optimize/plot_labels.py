"""Labels beside circles that cover neither each other nor a circle: the first free place is taken."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

_CHARACTER, _BOLD, _HEIGHT = 7.0, 8.0, 17.0  # of a label's text, in pixels
_AWAY = (4.0, 16.0, 30.0, 46.0)  # from the circle's edge; farther ones are led to by a line
_ANCHORS = {1: "start", 0: "middle", -1: "end"}
_DIRECTIONS = ((1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (-1, -1), (1, 1), (-1, 1))

Line = tuple[float, float, float, float]  # x and y of one end, x and y of the other


@dataclass(frozen=True, slots=True)
class Box:
    left: float
    top: float
    right: float
    bottom: float

    def holds(self, other: Box) -> bool:
        return (
            self.left <= other.left
            and self.top <= other.top
            and other.right <= self.right
            and other.bottom <= self.bottom
        )

    def covers(self, other: Box) -> bool:
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )

    def covers_circle(self, x: float, y: float, radius: float) -> bool:
        near_x, near_y = min(max(x, self.left), self.right), min(max(y, self.top), self.bottom)
        return math.hypot(x - near_x, y - near_y) < radius


@dataclass(frozen=True, slots=True)
class Label:
    """The text of a circle and its short form, for where there is no room; the rest is found by `place`."""

    text: str
    short: str
    x: float
    y: float
    radius: float
    is_bold: bool = False
    shown: str = ""
    box: Box | None = None
    anchor: str = "middle"  # which part of the text lies at `text_x`
    leader: Line | None = None  # from the circle to a far label

    @property
    def text_x(self) -> float:
        assert self.box is not None
        ends = {"start": self.box.left + 2, "end": self.box.right - 2}
        return ends.get(self.anchor, (self.box.left + self.box.right) / 2)


def place(labels: Sequence[Label], within: Box, lines: Sequence[Box] = ()) -> list[Label]:
    """The labels in their places, earlier ones first; one without any room sits on its own circle.

    `lines` are boxes without height or width: better not written across, if there is room elsewhere.
    """
    placed: list[Label] = []
    taken: list[Box] = []
    for label in labels:
        found = _first_free(label, labels, taken, within, lines)
        assert found.box is not None
        taken += [found.box, *_along(found.leader)]
        placed.append(found)
    return placed


def _first_free(
    label: Label, labels: Sequence[Label], taken: Sequence[Box], within: Box, lines: Sequence[Box]
) -> Label:
    for text, avoided in product((label.text, label.short), ([*taken, *lines], taken)):
        for away, direction in product(_AWAY, _DIRECTIONS):
            found = _beside(label, text, away, direction)
            if _is_free(found, labels, within, avoided):
                return found
    half = _width(label, label.short) / 2
    box = Box(label.x - half, label.y - _HEIGHT / 2, label.x + half, label.y + _HEIGHT / 2)
    return replace(label, shown=label.short, box=box)


def _is_free(found: Label, labels: Sequence[Label], within: Box, avoided: Sequence[Box]) -> bool:
    box = found.box
    assert box is not None
    parts = [box, *_along(found.leader)]
    return (
        within.holds(box)
        and not any(part.covers(other) for part in parts for other in avoided)
        and not any(box.covers_circle(other.x, other.y, other.radius + 2) for other in labels)
    )


def _beside(label: Label, text: str, away: float, direction: tuple[int, int]) -> Label:
    across, down = direction
    reach = (label.radius + away) * (math.sqrt(0.5) if across and down else 1)
    width = _width(label, text)
    left = label.x + across * reach - width * (1 - across) / 2
    top = label.y + down * reach - _HEIGHT * (1 - down) / 2
    box = Box(left, top, left + width, top + _HEIGHT)
    leader = _leader(label, box) if away > _AWAY[0] else None
    return replace(label, shown=text, box=box, anchor=_ANCHORS[across], leader=leader)


def _width(label: Label, text: str) -> float:
    return (_BOLD if label.is_bold else _CHARACTER) * len(text) + 4


def _leader(label: Label, box: Box) -> Line:
    """From the edge of the circle to the nearest point of the label."""
    x, y = min(max(label.x, box.left), box.right), min(max(label.y, box.top), box.bottom)
    share = label.radius / math.hypot(x - label.x, y - label.y)
    return label.x + (x - label.x) * share, label.y + (y - label.y) * share, x, y


def _along(leader: Line | None) -> list[Box]:
    """Small boxes along a line, which stand for it."""
    if leader is None:
        return []
    x1, y1, x2, y2 = leader
    steps = (number / 8 for number in range(1, 8))
    middles = [(x1 + (x2 - x1) * step, y1 + (y2 - y1) * step) for step in steps]
    return [Box(x - 1, y - 1, x + 1, y + 1) for x, y in middles]
