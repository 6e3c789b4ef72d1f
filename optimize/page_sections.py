"""The parts of the page that tell of each version: tables, chains of steps, layers, latencies."""

from __future__ import annotations

from collections.abc import Iterator

from optimize import report_words as words
from optimize.measure import BatchLatency
from optimize.page_markup import Html, Part, join, pairs, table, tag
from optimize.report import Report, Row

_MOST_LAYERS = 30


def versions(report: Report) -> Html:
    rows = [
        (
            tag("span", tag("span", str(number), class_="number"), f" {row.name}", _small(_where(row))),
            tag("span", tag("span", row.status, class_=f"badge {row.status}"), _small(_published(row))),
            *_figures(report, row),
            tag("span", row.reason, class_="words") if row.reason else "",
        )
        for number, row in enumerate((report.original, *report.candidates))
    ]
    head = ("version", "outcome", "size", "latency, one row", "accuracy", "why")
    return table(words.baseline(report), head, rows, class_="versions")


def _figures(report: Report, row: Row) -> tuple[Part, Part, Part]:
    """Size, latency and accuracy, each with its ratio or change."""
    measured, before = row.measured, report.before.measured
    if measured is None:
        return "", "", ""
    size, latency, accuracy = (
        words.size(measured.size_bytes),
        words.ms(measured.latency_ms),
        f"{measured.accuracy:.4f}",
    )
    if row is report.original:
        return (
            _figure(size, 1, "the baseline", row.status),
            _figure(latency, 1, "the baseline", row.status),
            _figure(accuracy, None, "the baseline", row.status),
        )
    gains = report.gains_of(row)
    return (
        _figure(size, measured.size_bytes / before.size_bytes, f"{gains.size_ratio:.2f} of it", row.status),
        _figure(latency, 1 / gains.speedup, f"{gains.speedup:.2f} times as fast", row.status),
        _figure(accuracy, None, words.change(gains.drop), row.status),
    )


def _figure(value: str, share: float | None, note: str, status: str) -> Html:
    bars = [] if share is None else [_bar(share, status)]
    return tag("span", tag("span", value), *bars, _small(note), class_="figure")


def _bar(share: float, status: str = "") -> Html:
    """A bar that is full at 1 and more."""
    width = 100 * min(max(share, 0.0), 1.0) if share == share else 0.0
    return tag("span", tag("i", style=f"width:{width:.1f}%"), class_=f"bar {status}", aria_hidden="true")


def _small(text: str) -> Html:
    return tag("small", text) if text else Html("")


def _where(row: Row) -> str:
    return ", ".join(part for part in (words.engine(row.engine), row.precision) if part)


def _published(row: Row) -> str:
    return f"version {row.version}" if row.version else ""


def chains(report: Report) -> Html:
    """What each step of a chain of steps cost."""
    chains = [row for row in report.candidates if len(row.steps) > 1 and row.measured]
    longest = [row for row in chains if not any(_continues(other, row) for other in chains)]
    return join(*(_chain(report, row) for row in longest))


def _continues(row: Row, start: Row) -> bool:
    return len(row.steps) > len(start.steps) and row.steps[: len(start.steps)] == start.steps


def _chain(report: Report, row: Row) -> Html:
    steps = [_step("original", report.original, None)]
    last = report.before.measured.accuracy
    for length, name in enumerate(row.steps, start=1):
        found = row if length == len(row.steps) else _at(report, row, length)
        steps.append(_step(name, found, last))
        if found and found.measured:
            last = found.measured.accuracy
    told = tag("h3", row.name, " ", tag("small", _where(row)))
    return join(told, tag("ol", *steps, class_="flow", aria_label=f"Accuracy by step of {row.name}"))


def _at(report: Report, row: Row, length: int) -> Row | None:
    """The measured row after the first steps of a chain, on the same engine if there is one."""
    found = [other for other in report.candidates if other.steps == row.steps[:length] and other.measured]
    return next((other for other in found if other.engine == row.engine), found[0] if found else None)


def _step(name: str, row: Row | None, last: float | None) -> Html:
    if row is None or row.measured is None:
        return tag("li", tag("b", name), tag("span", "not measured alone", class_="soft"))
    note = words.size(row.measured.size_bytes)
    if last is not None:
        note = f"{words.change(last - row.measured.accuracy)} by this step, {note}"
    value = tag("span", f"{row.measured.accuracy:.4f}", class_="value")
    return tag("li", tag("b", name), value, _small(note), class_=None)


def layers(report: Report) -> Html:
    layers = report.sensitivity[:_MOST_LAYERS]
    if not layers:
        return Html("")
    most = max(layer.error for layer in layers)
    rows = [
        (
            layer.name,
            tag("span", layer.kind, class_="words"),
            tag(
                "span",
                _bar(layer.error / most if most else 0),
                tag("span", f"{layer.error:.2g}"),
                class_="beside",
            ),
        )
        for layer in layers
    ]
    caption = (
        "1 - cosine between the original's outputs and those with this layer alone quantized, worst first."
    )
    shown = table(caption, ("layer", "kind", "error"), rows, class_="layers")
    rest = len(report.sensitivity) - len(layers)
    return join(shown, tag("p", f"{rest} more, each of them costs less.", class_="soft")) if rest else shown


def latencies(report: Report) -> Html:
    rows = [row for row in (report.original, *report.candidates) if row.measured and row.measured.latencies]
    return join(*(_latency(report, row) for row in rows))


def _latency(report: Report, row: Row) -> Html:
    assert row.measured is not None
    lines = [
        (
            f"batch {found.batch}",
            ", ".join(f"{name} {size}" for name, size in found.sizes.items()) or "fixed",
            str(found.threads),
            words.ms(found.median_ms),
            f"{words.ms(found.low_ms)} to {words.ms(found.high_ms)}",
            f"{1000 * found.batch / found.median_ms:,.0f}",
            *(_against(report, row, found)),
        )
        for found in row.measured.latencies
    ]
    head = ("batch", "shape", "threads", "median", "10% to 90%", "rows/s", "original", "against the original")
    caption = (
        f"One call of {words.on_engine(row)} with the whole batch, in turns with the original, "
        f"{words.on_engine(report.original)}."
    )
    return _details(report, row, [table(caption, head, lines)])


def _against(report: Report, row: Row, found: BatchLatency) -> tuple[str, str]:
    if row is report.original or not found.original_ms:
        return "", ""
    return words.ms(found.original_ms), f"{found.original_ms / found.median_ms:.2f} times as fast"


def making(report: Report) -> Html:
    rows = [row for row in (report.original, *report.candidates) if row.stages or row.toggles or row.facts]
    return join(*(_details(report, row, list(_made(row))) for row in rows))


def _made(row: Row) -> Iterator[Html]:
    facts = [words.fact(name, value) for name, value in row.facts.items()]
    if row.measured and row.status != "original":
        measured = row.measured
        facts.append(("cosine to the original", _cosine(measured.agreement_mean, measured.agreement_min)))
        if measured.padded_min < 1:
            padded = _cosine(measured.padded_mean, measured.padded_min)
            facts.append(("the same, rows padded together", padded))
    if row.stages or facts:
        yield pairs([*row.stages.items(), *facts])
    if row.toggles:
        most = max(toggle.latency_ms for toggle in row.toggles)
        lines = [
            (
                toggle.name,
                tag(
                    "span",
                    _bar(toggle.latency_ms / most),
                    tag("span", words.ms(toggle.latency_ms)),
                    class_="beside",
                ),
                "yes" if toggle.is_used else "no",
            )
            for toggle in row.toggles
        ]
        yield table(
            "Ways to load the graph that were tried, one row on one thread.",
            ("way", "latency", "used"),
            lines,
        )


def _cosine(mean: float, least: float) -> str:
    return f"mean {mean:.4f}, least {least:.4f}"


def _details(report: Report, row: Row, parts: list[Html]) -> Html:
    """Folded, but for the chosen version or the nearest one."""
    summary = tag("summary", row.name, " ", tag("span", _where(row), class_="soft"))
    return tag("details", summary, *parts, open="" if row is report.nearest else None)
