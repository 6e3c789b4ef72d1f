"""What `headrace simulate` found as one HTML page: replicas, queue and latency by time, no script, nothing
loaded."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from autoscaling.outcome import Outcome, Second
from optimize.page_markup import Html, join, table, tag, whole_page
from optimize.plot_axis import Axis

_COLOURS = ("chosen", "missed", "good", "failed", "original")
_DASHES = ("none", "7 4", "2 3")  # when there are more policies than colours
_POINTS = 400  # of a line
_WIDTH, _HEIGHT = 900.0, 230.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 64.0, 20.0, 14.0, 44.0
_UNITS = ((2 * 86400.0, 86400.0, "days"), (2 * 3600.0, 3600.0, "hours"), (300.0, 60.0, "minutes"))


@dataclass(frozen=True, slots=True)
class _Kind:
    """One plot: what a second tells, what of many seconds counts, and what it is called."""

    title: str
    unit: str
    of: Callable[[Second], float]
    together: Callable[[Sequence[float]], float]
    note: str


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _replicas(second: Second) -> float:
    return second.running + second.starting


def _queue(second: Second) -> float:
    return second.queue_rows


def _p99_ms(second: Second) -> float:
    return 1000 * second.p99_s


_KINDS = (
    _Kind("Replicas", "replicas", _replicas, _mean, "Those that start included."),
    _Kind("Queue", "rows", _queue, max, "Rows that wait, in gateways and in replicas."),
    _Kind("P99", "ms", _p99_ms, max, "Of the requests that came in each second."),
)


def as_html(outcomes: Sequence[Outcome], lead: str) -> str:
    """A complete page."""
    title = "What autoscaling would have made of it"
    sections = [
        tag("section", tag("h2", kind.title), _figure(outcomes, kind), tag("p", kind.note, class_="soft"))
        for kind in _KINDS
    ]
    return whole_page(
        title,
        tag("header", tag("h1", title), tag("p", lead, class_="lead")),
        tag("section", tag("h2", "In all"), _as_table(outcomes)),
        *sections,
    )


def measures(outcome: Outcome) -> dict[str, str]:
    """One policy's figures, by what they are called."""
    return {
        "P50": _ms(outcome.percentile_s(50)),
        "P95": _ms(outcome.percentile_s(95)),
        "P99": _ms(outcome.percentile_s(99)),
        f"later than {1000 * outcome.objective_s:g} ms, or refused": (
            f"{outcome.misses:,} ({outcome.miss_share:.2%})"
        ),
        "refused": f"{outcome.refused:,}",
        "replica-hours": f"{outcome.replica_hours:,.2f}",
        "utilization": f"{outcome.utilization:.0%}",
        "most replicas": str(outcome.most_replicas),
        "changes, turns among them": f"{outcome.changes}, {outcome.reversals}",
    }


def rows_of(outcomes: Sequence[Outcome]) -> list[tuple[str, ...]]:
    """A measure in each row, a policy in each column."""
    told = [measures(outcome) for outcome in outcomes]
    return [(name, *(each[name] for each in told)) for name in told[0]]


def _as_table(outcomes: Sequence[Outcome]) -> Html:
    caption = (
        "Replica-hours count from being asked for to being gone. A turn is a change in the other direction "
        "than the one before."
    )
    return table(caption, ("", *(outcome.policy for outcome in outcomes)), rows_of(outcomes))


def points(seconds: Sequence[Second], kind: int) -> list[tuple[float, float]]:
    """At most some hundred points, each for as many seconds; those that tell nothing are left out."""
    of, together = _KINDS[kind].of, _KINDS[kind].together
    width = math.ceil(len(seconds) / _POINTS)
    found = []
    for start in range(0, len(seconds), width):
        values = [value for second in seconds[start : start + width] if math.isfinite(value := of(second))]
        if values:
            found.append((float(start), together(values)))
    return found


def _figure(outcomes: Sequence[Outcome], kind: _Kind) -> Html:
    number = _KINDS.index(kind)
    curves = [points(outcome.seconds, number) for outcome in outcomes]
    values = [value for curve in curves for _, value in curve] or [1.0]
    span_s = max(1.0, max(len(outcome.seconds) for outcome in outcomes) - 1.0)
    least_s, name = next(
        ((unit_s, name) for least, unit_s, name in _UNITS if span_s >= least), (1.0, "seconds")
    )
    across = Axis(0.0, span_s / least_s, _LEFT, _WIDTH - _RIGHT)
    is_log = kind.unit == "ms" and min(values) > 0
    low = min(values) / 1.2 if is_log else 0.0
    upwards = Axis(low, 1.1 * max(*values, low * 2, 1e-3), _HEIGHT - _BOTTOM, _TOP, is_log)
    lines = [_line(curve, across, upwards, least_s, place) for place, curve in enumerate(curves)]
    objective_ms = 1000 * outcomes[0].objective_s
    goal: list[Html] = []
    if kind.unit == "ms" and upwards.low < objective_ms < upwards.high:
        y = upwards.at(objective_ms)
        goal = [
            tag("line", class_="key", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y, stroke_dasharray="3 3"),
            tag("text", "objective", class_="tick", x=_WIDTH - _RIGHT, y=y - 4, text_anchor="end"),
        ]
    most = "; ".join(
        f"{outcome.policy}: at most {max((value for _, value in curve), default=0):,.0f} {kind.unit}"
        for outcome, curve in zip(outcomes, curves, strict=True)
    )
    size = {"viewBox": f"0 0 {_WIDTH:g} {_HEIGHT:g}", "class_": "plot", "role": "img"}
    drawing = tag(
        "svg", *_axes(across, upwards, name), *goal, *lines, aria_label=f"{kind.title}: {most}", **size
    )
    legend = [_entry(outcome.policy, place) for place, outcome in enumerate(outcomes)]
    return tag("figure", drawing, tag("ul", *legend, class_="legend"))


def _line(
    curve: Sequence[tuple[float, float]], across: Axis, upwards: Axis, unit_s: float, place: int
) -> Html:
    """One for each stretch without a gap."""
    step = min((after[0] - before[0] for before, after in pairwise(curve)), default=1.0)
    parts: list[list[str]] = []
    last = -math.inf
    for at, value in curve:
        if at - last > 1.5 * step:
            parts.append([])
        parts[-1].append(f"{across.at(at / unit_s):.1f},{upwards.at(value):.1f}")
        last = at
    look = {"fill": "none", "class_": _colour(place), **_stroke(place)}
    return join(*(tag("polyline", points=" ".join(part), **look) for part in parts))


def _stroke(place: int) -> dict[str, str | float]:
    dash = _DASHES[place // len(_COLOURS) % len(_DASHES)]
    return {"stroke": "currentColor", "stroke_width": 1.8, "stroke_dasharray": dash}


def _colour(place: int) -> str:
    return _COLOURS[place % len(_COLOURS)]


def _axes(across: Axis, upwards: Axis, unit: str) -> Iterator[Html]:
    bottom = _HEIGHT - _BOTTOM
    for value, text in upwards.ticks(5):
        y = upwards.at(value)
        yield tag("line", class_="grid", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y)
        yield tag("text", text, class_="tick", x=_LEFT - 8, y=y + 4, text_anchor="end")
    for value, text in across.ticks(10):
        yield tag("text", text, class_="tick", x=across.at(value), y=bottom + 18, text_anchor="middle")
    yield tag("line", class_="axis", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=bottom, y2=bottom)
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    yield tag("text", unit, class_="name", x=middle, y=_HEIGHT - 6, text_anchor="middle")


def _entry(text: str, place: int) -> Html:
    line = tag("line", x1=0, x2=30, y1=8, y2=8, **_stroke(place))
    icon = tag("svg", line, width=30, height=16, viewBox="0 0 30 16", aria_hidden="true")
    return tag("li", join(icon, tag("span", text)), class_=_colour(place))


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:,.0f} ms" if math.isfinite(seconds) else "none"
