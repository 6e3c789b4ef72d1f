"""The report as one HTML page: no script, nothing loaded from elsewhere, light and dark."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from optimize import page_sections as sections
from optimize import report_words as words
from optimize.page_markup import Html, join, pairs, table, tag, whole_page
from optimize.plot import downwards, mark, pareto
from optimize.plot_plane import accuracy_goal, latency_goal, lowest_drawn
from optimize.report import Report

_TIMES = "\u00d7"
_LEGEND = {
    "original": "the original",
    "chosen": "chosen",
    "good": "within the goals",
    "missed": "misses a goal",
}


def as_html(report: Report) -> str:
    """A complete page; everything that is not ours to write is escaped."""
    title = f"{report.model}: optimization report"
    return whole_page(title, _header(report), *_sections(report))


def _sections(report: Report) -> Iterator[Html]:
    parts: list[tuple[str, Callable[[Report], Html]]] = [
        ("Accuracy against latency", _plot),
        ("Versions", sections.versions),
        ("Accuracy by step", sections.chains),
        ("What each layer costs", sections.layers),
        ("Latency by batch and shape", sections.latencies),
        ("How each version was made", sections.making),
        ("Goals", _goals),
        ("Measured on", _machine),
        ("Repeat", _repeat),
    ]
    for title, part in parts:
        if body := part(report):
            yield join(tag("section", tag("h2", title), body), "\n")


def _header(report: Report) -> Html:
    return tag(
        "header",
        tag("div", "Headrace optimization report", class_="eyebrow"),
        tag("h1", report.model),
        tag("p", words.headline(report), class_="lead"),
        *_tiles(report),
    )


def _tiles(report: Report) -> Iterator[Html]:
    """The gains of the chosen version, or of the nearest one, as large figures."""
    row = report.nearest
    if row is None or row.measured is None:
        return
    before, after, gains = report.before.measured, row.measured, report.gains_of(row)
    before_ms = after.original_ms or before.latency_ms
    asked = list(words.goals(report))
    met = sum(not goal.is_missed for goal in asked)
    tiles = [
        (
            "speed",
            f"{gains.speedup:.2f}{_TIMES}",
            f"{words.ms(before_ms)} to {words.ms(after.latency_ms)}, one row",
        ),
        (
            "size",
            f"{gains.size_ratio:.2f}{_TIMES}",
            f"{words.size(before.size_bytes)} to {words.size(after.size_bytes)}",
        ),
        ("accuracy", f"{after.accuracy:.4f}", f"{words.change(gains.drop)} from {before.accuracy:.4f}"),
        ("goals met", f"{met} of {len(asked)}" if asked else "none set", f"by {row.name}"),
    ]
    yield tag("dl", *(_tile(*tile) for tile in tiles), class_="tiles")


def _tile(name: str, value: str, note: str) -> Html:
    told = (tag("dt", name), tag("dd", value, class_="value"), tag("dd", note, class_="note"))
    return tag("div", *told, class_="tile")


def _plot(report: Report) -> Html:
    rows = [row for row in (report.original, *report.candidates) if row.measured]
    if len(rows) < 2:
        return Html("")
    present = [status for status in _LEGEND if any(row.status == status for row in rows)]
    entries = [_legend(status) for status in present]
    lowest = lowest_drawn(rows)
    if any(row.measured and row.measured.accuracy < lowest for row in rows):
        entries.append(_entry(downwards(11, 8), "far below, its accuracy beside it", "missed"))
    front = tag("path", class_="front", d="M1 13V5H22")
    entries.append(_entry(front, "Pareto front: nothing measured is both as fast and more accurate"))
    if accuracy_goal(report) is not None or latency_goal(report) is not None:
        area = tag("rect", class_="goal axis", x=1, y=2, width=20, height=12)
        entries.append(_entry(area, "within the goals for accuracy and speed"))
    return tag(
        "figure",
        pareto(report, 960, 460, "wide"),
        pareto(report, 360, 380, "narrow"),
        tag("ul", *entries, class_="legend"),
        tag(
            "figcaption",
            "Up and to the left is better. The area of a circle is proportional to the size of the version; "
            "numbers refer to the table below.",
        ),
    )


def _legend(status: str) -> Html:
    circle = tag("circle", class_="area", cx=11, cy=8, r=7)
    return _entry(join(circle, mark(status, 11, 8)), _LEGEND[status], status)


def _entry(drawing: Html, text: str, class_: str | None = None) -> Html:
    return tag("li", _icon(drawing), tag("span", text), class_=class_)


def _icon(drawing: Html) -> Html:
    return tag("svg", drawing, width=23, height=16, viewBox="0 0 23 16", aria_hidden="true")


def _goals(report: Report) -> Html:
    asked = list(words.goals(report))
    if not asked:
        return tag("p", "No goal was set.")
    rows = [
        (
            goal.name,
            goal.meaning,
            goal.wanted,
            goal.reached or "nothing was measured",
            tag("span", "missed" if goal.is_missed else "reached", class_=_verdict(goal.is_missed)),
        )
        for goal in asked
    ]
    row = report.nearest
    caption = f"Measured of {words.on_engine(row)}." if row else "No version could be measured."
    return table(caption, ("goal", "meaning", "wanted", "measured", "verdict"), rows)


def _verdict(is_missed: bool) -> str:
    return f"badge {'missed' if is_missed else 'good'}"


def _machine(report: Report) -> Html:
    machine = report.machine
    rows = [
        ("CPU", machine.cpu),
        ("cores", str(machine.cores)),
        ("system", machine.system),
        ("instructions", ", ".join(machine.flags) or "unknown"),
        *machine.versions.items(),
    ]
    return pairs(rows)


def _repeat(report: Report) -> Html:
    told = f"{report.created}, took {words.duration(report.seconds)}"
    return join(tag("pre", report.command), tag("p", told, class_="soft"))
