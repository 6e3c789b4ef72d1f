"""The page of a report in a real browser: painted, measured, on a phone and in the dark."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimize.page import as_html
from optimize.report import Report
from tests.browser import Browser, find_browser
from tests.optimize import samples

REPORTS = [samples.small(), samples.large(), samples.missed(), samples.hopeless(), samples.unwieldy()]
PHONE, DESK = 390, 1200
CHOSEN = (11, 122, 117)  # the colour of the chosen version in the light

# Centre, radius and number of each circle, the ticks by their texts, and the frame of the plot.
PLOT = """
  const all = (selector) => [...svg.querySelectorAll(selector)];
  const box = (part) => {
    const found = part.getBoundingClientRect();
    return { left: found.left, right: found.right, top: found.top, bottom: found.bottom };
  };
  const svg = [...page.querySelectorAll("svg.plot")].find((plot) => plot.getBoundingClientRect().width);
  const circles = all(".point .area").map((area) => {
    const at = area.getScreenCTM();
    const [x, y, r] = [area.cx, area.cy, area.r].map((length) => length.baseVal.value);
    const number = Number(area.closest(".point").dataset.number);
    return { number, x: at.a * x + at.e, y: at.d * y + at.f, radius: at.a * r };
  });
  const ticks = all(".grid").map((line) => {
    const isAcross = line.x1.baseVal.value === line.x2.baseVal.value;
    return { text: line.nextElementSibling.textContent, isAcross, ...box(line) };
  });
  const labels = all(".label text").map((label) => ({ text: label.textContent, ...box(label) }));
  return { circles, ticks, labels };
"""

# Whatever reaches beyond the right edge, and the width that the page would scroll over.
OVERFLOW = """
  const width = page.defaultView.innerWidth;
  const parts = [...page.querySelectorAll("body *")].filter((part) => !part.closest("thead"));
  const beyond = parts.filter((part) => part.getBoundingClientRect().right > width + 0.5);
  return { width: page.documentElement.scrollWidth, beyond: beyond.map((part) => part.outerHTML) };
"""

# The least contrast of text to what lies behind it, by WCAG's formula.
CONTRAST = """
  const parse = (color) => (color.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (part) => {
    for (let at = part; at; at = at.parentElement) {
      const color = parse(page.defaultView.getComputedStyle(at).backgroundColor);
      if (color.length === 3 || color[3] > 0.99) return color;
    }
    return [255, 255, 255];
  };
  const texts = [...page.querySelectorAll("body *")].filter((part) =>
    [...part.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim()) &&
    part.getClientRects().length);
  return texts.map((part) => {
    const style = page.defaultView.getComputedStyle(part);
    const color = part.namespaceURI.endsWith("svg") ? style.fill : style.color;
    const [low, high] = [light(parse(color)), light(behind(part))].sort((a, b) => a - b);
    return { ratio: (high + 0.05) / (low + 0.05), text: part.textContent.slice(0, 40) };
  }).sort((a, b) => a.ratio - b.ratio)[0];
"""


@pytest.fixture(scope="module")
def browser() -> Browser:
    return find_browser()


def rows_of(report: Report) -> dict[int, Any]:
    return {
        number: row.measured
        for number, row in enumerate((report.original, *report.candidates))
        if row.measured is not None
    }


def reading(ticks: list[dict[str, Any]], is_across: bool, log: bool = False) -> Any:
    """From pixels to values, as somebody reads them off the ticks."""
    chosen = [tick for tick in ticks if tick["isAcross"] is is_across]
    pixels = [tick["left" if is_across else "top"] for tick in chosen]
    values = [float(tick["text"]) for tick in chosen]
    slope, start = np.polyfit(pixels, np.log(values) if log else values, 1)
    return lambda pixel: np.exp(slope * pixel + start) if log else slope * pixel + start


@pytest.mark.parametrize(("is_ci", "what"), [(True, pytest.fail.Exception), (False, pytest.skip.Exception)])
def test_a_missing_browser_fails_in_ci_and_skips_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, is_ci: bool, what: type[BaseException]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CI", "true" if is_ci else "")
    with pytest.raises(what, match="no browser"):
        find_browser()


def test_the_page_is_painted_and_the_browser_has_nothing_to_say(browser: Browser) -> None:
    seen = browser.paint(as_html(samples.large()), DESK, 900)
    assert seen.console == []
    assert seen.pixels.shape == (900, DESK, 3)
    colours = np.unique(seen.pixels.reshape(-1, 3), axis=0)
    assert len(colours) > 100


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_circles_lie_where_the_ticks_say_and_their_area_tells_the_size(browser: Browser, width: int) -> None:
    report = samples.large()
    (plot,) = browser.look([as_html(report)], PLOT, width)
    latency, accuracy = reading(plot["ticks"], True), reading(plot["ticks"], False)
    rows = rows_of(report)
    far_below = {number for number, measured in rows.items() if measured.accuracy < 0.5}
    assert {circle["number"] for circle in plot["circles"]} == rows.keys() - far_below
    left = min(tick["left"] for tick in plot["ticks"] if not tick["isAcross"])
    right = max(tick["right"] for tick in plot["ticks"] if not tick["isAcross"])
    top = min(tick["top"] for tick in plot["ticks"] if tick["isAcross"])
    bottom = max(tick["bottom"] for tick in plot["ticks"] if tick["isAcross"])
    areas = []
    for circle in plot["circles"]:
        measured, x, y, radius = (rows[circle["number"]], *(circle[key] for key in ("x", "y", "radius")))
        assert latency(x) == pytest.approx(measured.latency_ms, abs=0.03)
        assert accuracy(y) == pytest.approx(measured.accuracy, abs=0.0003)
        assert left <= x - radius
        assert x + radius <= right
        assert top <= y - radius
        assert y + radius <= bottom
        areas.append(radius**2 / measured.size_bytes)
    assert max(areas) == pytest.approx(min(areas), rel=0.02)


def test_a_log_scale_is_read_off_its_ticks_too(browser: Browser) -> None:
    slow = samples.row("int8-dynamic", "missed", (23_000_000, 90.0, 0.86))
    report = replace(samples.small(), candidates=(samples.CHOSEN, slow))
    (plot,) = browser.look([as_html(report)], PLOT, DESK)
    latency = reading(plot["ticks"], True, log=True)
    for circle in plot["circles"]:
        assert latency(circle["x"]) == pytest.approx(rows_of(report)[circle["number"]].latency_ms, rel=0.02)


def test_the_chosen_version_is_painted_at_its_place(browser: Browser) -> None:
    page = as_html(samples.small())
    (plot,) = browser.look([page], PLOT, DESK)
    circle = next(circle for circle in plot["circles"] if circle["number"] == 1)
    pixels = browser.paint(page, DESK, 900).pixels
    x, y = round(circle["x"]), round(circle["y"])
    assert np.abs(pixels[y - 1 : y + 2, x - 1 : x + 2].astype(int) - CHOSEN).max() <= 3


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_labels_cover_neither_each_other_nor_foreign_circles(browser: Browser, width: int) -> None:
    (plot,) = browser.look([as_html(samples.large())], PLOT, width)
    for first, second in combinations(plot["labels"], 2):
        is_apart = (
            first["right"] <= second["left"]
            or second["right"] <= first["left"]
            or first["bottom"] <= second["top"] + 2  # boxes of lines of text reach beyond their letters
            or second["bottom"] <= first["top"] + 2
        )
        assert is_apart, (first, second)
    for label in plot["labels"]:
        number = int(label["text"].split(":")[0].split()[0])
        for circle in plot["circles"]:
            x = np.clip(circle["x"], label["left"], label["right"])
            y = np.clip(circle["y"], label["top"] + 2, label["bottom"] - 2)
            is_outside = np.hypot(x - circle["x"], y - circle["y"]) >= circle["radius"]
            assert is_outside or circle["number"] == number, (label, circle)


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_no_page_scrolls_sideways(browser: Browser, width: int) -> None:
    for seen in browser.look([as_html(report) for report in REPORTS], OVERFLOW, width):
        assert seen == {"width": width, "beyond": []}


def test_dark_mode_darkens_the_page(browser: Browser) -> None:
    page = as_html(samples.small())
    light, dark = (browser.paint(page, DESK, 300, is_dark=is_dark).pixels for is_dark in (False, True))
    assert light[0, 0].min() > 200
    assert dark[0, 0].max() < 60


@pytest.mark.parametrize("is_dark", [False, True])
def test_every_text_stands_out_from_its_background(browser: Browser, is_dark: bool) -> None:
    pages = [as_html(report) for report in REPORTS]
    for least in browser.look(pages, CONTRAST, DESK, is_dark=is_dark):
        assert least["ratio"] >= 4.5, least
