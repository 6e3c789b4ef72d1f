"""What `headrace cache simulate` found as one HTML page: hits against memory, no script, nothing loaded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from cache.simulate import Point
from optimize.page_markup import Html, table, tag, whole_page
from optimize.plot_axis import Axis

_NAMES = {"lru": "LRU", "lfu": "LFU", "headrace": "Headrace's memory (W-TinyLFU)"}
_COLOURS = {"lru": "good", "lfu": "missed", "headrace": "chosen"}
_DASHES = ("none", "7 4", "2 3", "10 3 2 3")  # by time to live
_WIDTH, _HEIGHT = 900.0, 420.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 60.0, 20.0, 20.0, 48.0


def as_html(points: Sequence[Point], requests: int, keys: int) -> str:
    """A complete page."""
    title = "What a cache would have answered"
    lead = f"{requests:,} requests with {keys:,} different answers, replayed through every policy and size."
    return whole_page(
        title,
        tag("header", tag("h1", title), tag("p", lead, class_="lead")),
        tag("section", tag("h2", "Hits against memory"), _figure(points)),
        tag("section", tag("h2", "All of it"), _table(points)),
    )


def curves(points: Sequence[Point]) -> dict[tuple[str, float], list[Point]]:
    """The points of each policy and time to live, by size."""
    found: dict[tuple[str, float], list[Point]] = {}
    for point in sorted(points, key=lambda point: point.max_bytes):
        found.setdefault((point.policy, point.ttl_s), []).append(point)
    return found


def mib(num_bytes: float) -> str:
    size = num_bytes / 2**20
    return f"{size:.0f}" if size >= 10 else f"{size:.2g}"


def seconds(value: float) -> str:
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if value >= length:
            return f"{value / length:g} {unit}"
    return f"{value:g} s"


def _figure(points: Sequence[Point]) -> Html:
    sizes = [point.max_bytes / 2**20 for point in points]
    least, most = min(sizes), max(sizes)
    across = Axis(least, max(most, least * 1.01), _LEFT, _WIDTH - _RIGHT, is_log=True)
    highest = max(point.hit_rate for point in points) or 0.01
    upwards = Axis(0.0, 1.08 * 100 * highest, _HEIGHT - _BOTTOM, _TOP)
    ttls = sorted({point.ttl_s for point in points}, reverse=True)
    lines = [
        tag(
            "polyline",
            points=" ".join(
                f"{across.at(point.max_bytes / 2**20):.1f},{upwards.at(100 * point.hit_rate):.1f}"
                for point in curve
            ),
            fill="none",
            stroke="currentColor",
            stroke_width=2.2,
            stroke_dasharray=_dash(ttls, ttl_s),
            class_=_COLOURS[policy],
        )
        for (policy, ttl_s), curve in curves(points).items()
    ]
    size = {"viewBox": f"0 0 {_WIDTH:g} {_HEIGHT:g}", "class_": "plot", "role": "img"}
    drawing = tag("svg", *_axes(across, upwards), *lines, aria_label="Hits against memory", **size)
    policies = list(dict.fromkeys(point.policy for point in points))
    entries = [_entry(_NAMES[policy], _COLOURS[policy], "none") for policy in policies]
    if len(ttls) > 1:
        entries += [_entry(f"kept for {seconds(ttl_s)}", "original", _dash(ttls, ttl_s)) for ttl_s in ttls]
    caption = "Memory for answers in MiB, what lies around them included. Up and to the left is better."
    return tag("figure", drawing, tag("ul", *entries, class_="legend"), tag("figcaption", caption))


def _dash(ttls: Sequence[float], ttl_s: float) -> str:
    return _DASHES[ttls.index(ttl_s) % len(_DASHES)]


def _axes(across: Axis, upwards: Axis) -> Iterator[Html]:
    bottom = _HEIGHT - _BOTTOM
    for value, text in upwards.ticks(6):
        y = upwards.at(value)
        yield tag("line", class_="grid", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y)
        yield tag("text", f"{text}%", class_="tick", x=_LEFT - 8, y=y + 4, text_anchor="end")
    for value, text in across.ticks(8):
        yield tag("text", text, class_="tick", x=across.at(value), y=bottom + 18, text_anchor="middle")
    yield tag("line", class_="axis", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=bottom, y2=bottom)
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    yield tag("text", "MiB", class_="name", x=middle, y=_HEIGHT - 8, text_anchor="middle")


def _entry(text: str, colour: str, dash: str) -> Html:
    line = tag(
        "line", x1=0, x2=30, y1=8, y2=8, stroke="currentColor", stroke_width=2.2, stroke_dasharray=dash
    )
    icon = tag("svg", line, width=30, height=16, viewBox="0 0 30 16", aria_hidden="true")
    return tag("li", icon, tag("span", text), class_=colour)


def _table(points: Sequence[Point]) -> Html:
    rows = [
        (
            _NAMES[point.policy],
            seconds(point.ttl_s) if math.isfinite(point.ttl_s) else "for ever",
            mib(point.max_bytes),
            f"{point.hit_rate:.1%}",
            f"{point.saved:.1%}",
        )
        for point in points
    ]
    head = ("policy", "kept for", "MiB", "hits", "computing saved")
    return table("Hits are requests that were answered from memory.", head, rows)
