"""The live page in a real browser, with figures of a made-up server."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from deployments.dashboard import Dashboard
from deployments.http import HttpApp
from deployments.viewers import Viewers
from engines.artifact import Repository
from headrace.config import LimitsConfig, parse_config
from tests.deployments.listening import listening
from tests.devtools import Tab, tab
from tests.live_figures import NOW, figures

NONE = "\N{EN DASH}"
CSS = (Path(__file__).parents[2] / "deployments" / "web" / "page.css").read_text()
# What can have the focus; of a group of radio buttons, one has it.
CONTROLS = """[...document.querySelectorAll('a[href], button, input, summary, [tabindex="0"]')]
  .filter((node) => node.checkVisibility() && !node.disabled)
  .filter((node) => node.type !== 'radio' || node.checked).length"""
# What has the focus: a number of its own, and how that is seen.
FOCUSED = """(() => {
  const node = document.activeElement;
  if (node === document.body) return 'body';
  window.walked ??= new Map();
  if (!window.walked.has(node)) window.walked.set(node, window.walked.size);
  const { outlineStyle, outlineWidth } = getComputedStyle(node);
  return [window.walked.get(node), outlineStyle, parseFloat(outlineWidth) >= 2].join(' ');
})()"""


class Told:
    """The figures that the page gets next."""

    def __init__(self) -> None:
        self.document: dict[str, Any] = figures()
        self.step_s = 1.0

    async def __call__(self) -> bytes:
        self.document = {**self.document, "now": self.document["now"] + self.step_s}
        return orjson.dumps(self.document)


@asynccontextmanager
async def page(told: Told, every_s: float = 0.2, width: int = 1280) -> AsyncIterator[Tab]:
    repository = Repository(Path("nowhere"))
    viewers = Viewers(told, every_s=every_s)
    dashboard = Dashboard(parse_config({"models": {"minilm": {}}}), repository, viewers)
    gateway = SimpleNamespace(
        dashboard=dashboard, control=None, purge_model=None, count_error=lambda *_: None
    )
    async with listening(HttpApp(gateway, LimitsConfig())) as port, tab() as found:  # type: ignore[arg-type]
        await found.size(width, 900)
        await found.open(f"http://127.0.0.1:{port}/dashboard")
        await found.until("document.body.dataset.state === 'live'")
        yield found


async def text(found: Tab, selector: str) -> str:
    told: str = await found.run(f"document.querySelector({selector!r}).textContent")
    return told


async def figure(found: Tab, name: str) -> str:
    return await text(found, f'[data-figure="{name}"]')


async def test_every_kind_of_figure_is_written_with_its_unit() -> None:
    async with page(Told()) as found:
        wanted = {
            "minilm/1/p50": "3.87 ms",
            "minilm/1/p99": "14.2 ms",
            "minilm/1/requests_per_s": "121/s",
            "minilm/1/wire/mean": "80.0 µs",
            "minilm/1/length<=64/fill": "92%",
            "minilm/1/tier/miss": "4,000",
            "minilm/1/saved": "12.3 s",
            "minilm/1/errors/overloaded": "3",
            "minilm/1/replicas": "2 of 3 run",
            "minilm/2/share": "5%",
            "minilm/2/compared/p99": "18.4 ms",
            "minilm/2/compared/accuracy": "93%",
            "resnet/3/p50": NONE,
            "total/requests_per_s": "127/s",
            "ab12/memory": "286 MiB",
            "cache/shared": "1,200 entries",
        }
        assert {name: await figure(found, name) for name in wanted} == wanted
        assert "8.00 GiB of 80.0 GiB" in await text(found, "#processes")
        assert "+30% slower" in await text(found, ".compare")
        assert await text(found, ".badge") == "Canary"
        assert "past p99<=1.2x" in await text(found, ".why")
        assert found.console == []


async def test_a_model_that_nobody_asked_says_how_to_ask() -> None:
    async with page(Told()) as found:
        told = await text(found, "#model-resnet .empty")
        assert re.search(
            r"No request in the last minute.*curl http://127\.0\.0\.1:\d+/v2/models/resnet", told
        )
        assert not await found.run("document.querySelector('#model-minilm .empty').checkVisibility()")


async def test_the_details_are_of_the_version_that_is_chosen_as_long_as_it_is_there() -> None:
    told = Told()
    async with page(told) as found:
        assert (
            await found.run(
                "document.querySelectorAll('#model-minilm .tile [data-figure^=\"minilm/1/\"]').length"
            )
            == 6
        )
        await found.run("document.querySelector('#model-minilm input[value=\"2\"]').click()")
        assert await figure(found, "minilm/2/p99") == "18.4 ms"
        assert await text(found, "#model-minilm .report a") == "Optimization report of version 2"
        link = await found.run("document.querySelector('#model-minilm .report a').pathname")
        assert link == "/dashboard/reports/minilm/2"
        told.document = figures(told.document["now"], is_rolling=False)
        await found.until("document.querySelector('#model-minilm .badge').textContent === 'Stable'")
        assert await figure(found, "minilm/1/p99") == "14.2 ms"
        assert not await found.run("document.querySelector('#model-minilm .choice').checkVisibility()")


async def test_names_from_outside_stay_text() -> None:
    told = Told()
    hostile = "<img src=x onerror=alert(1)>"
    told.document["problems"] = [hostile]
    told.document["models"][0]["versions"][0]["errors"] = {hostile: 1}
    told.document["models"][0]["rollout"]["words"] = hostile
    async with page(told) as found:
        assert await text(found, "#problems") == hostile
        assert await text(found, ".why") == hostile
        assert await found.run("document.querySelectorAll('main img').length") == 0
        assert found.console == []


async def test_no_news_for_some_seconds_is_told_and_news_end_it() -> None:
    told = Told()
    async with page(told) as found:
        told.step_s = 0.0  # the same figures are no news
        await found.until("document.body.dataset.state === 'lost'", 20)
        assert re.fullmatch(r"no news for \d+ s", await text(found, "#state"))
        assert await text(found, "#news") == "The figures are out of date."
        told.step_s = 1.0
        await found.until("document.body.dataset.state === 'live'")
        assert await text(found, "#news") == "The page is live."


async def test_nothing_is_wider_than_the_screen() -> None:
    cut = """[...document.querySelectorAll('main *')].filter((node) => node.scrollWidth > node.clientWidth + 1
      && node.clientWidth && getComputedStyle(node).overflowX === 'hidden'
      && !node.closest('.unseen, .stack, thead')).map((node) => node.outerHTML.slice(0, 80))"""
    async with page(Told()) as found:
        for width in (320, 360, 768, 1280, 2560):
            await found.size(width, 900)
            assert await found.run("document.documentElement.scrollWidth") <= width
            assert await found.run(cut) == []


async def test_a_screen_reader_finds_landmarks_headings_and_a_name_on_everything() -> None:
    async with page(Told()) as found:
        tree = await found.tree()
        roles = [role for role, _ in tree]
        for landmark in ("banner", "navigation", "main", "contentinfo"):
            assert roles.count(landmark) == 1, landmark
        headings = [name for role, name in tree if role == "heading"]
        assert {"Headrace", "minilm", "resnet", "Where the time goes", "Processes"} <= set(headings)
        for role, name in tree:
            if role in ("button", "link", "radio", "slider", "textbox", "table", "region", "figure", "group"):
                assert name or role == "group", role
        assert ("button", "Roll back: minilm") in tree
        assert ("button", "Roll back: resnet") in tree
        assert ("table", "Time by stage") in tree
        assert ("columnheader", "CPU cores") in tree


async def test_the_keyboard_reaches_every_control_and_the_focus_is_seen() -> None:
    async with page(Told(), every_s=1.0) as found:
        count = await found.run(CONTROLS)
        assert count > 15
        reached: set[str] = set()
        for _ in range(count + 2):
            await found.press("Tab")
            reached.add(await found.run(FOCUSED))
        reached.discard("body")
        assert len(reached) == count
        assert all(one.endswith("solid true") for one in reached), reached


async def test_the_arrow_keys_move_through_a_chart_and_say_what_is_there() -> None:
    async with page(Told(), every_s=1.0) as found:
        chart = "document.querySelector('#model-minilm .charts .chart')"
        await found.run(f"{chart}.querySelector('input').focus()")
        assert await found.run(f"{chart}.querySelector('.latest').textContent") == "latest"
        await found.press("ArrowLeft")
        assert (await found.run(f"{chart}.querySelector('.latest').textContent")).startswith("at ")
        told = await found.run(f"{chart}.querySelector('input').getAttribute('aria-valuetext')")
        assert re.fullmatch(r"\d\d:\d\d:\d\d: P50 [\d.]+ ms, P95 [\d.]+ ms, P99 [\d.]+ ms", told)
        await found.run(f"{chart}.querySelector('summary').click()")
        rows = await found.until(f"{chart}.querySelectorAll('tbody tr').length")
        assert 20 <= rows <= 21


async def test_a_dialog_asks_before_anything_is_done_and_leaves_by_escape() -> None:
    async with page(Told()) as found:
        await found.run("document.querySelector('#model-minilm [data-action=promote]').focus()")
        await found.press("Enter")
        await found.until("document.querySelector('dialog').open")
        assert await text(found, "dialog h2") == "Promote version 2 of minilm?"
        assert await found.run("document.activeElement.type") == "password"
        assert ("dialog", "Promote version 2 of minilm?") in await found.tree()
        await found.press("Escape")
        await found.until("!document.querySelector('dialog').open")
        assert await found.run("document.activeElement.dataset.action") == "promote"
        assert not [url for url in found.asked_for if "/v2/" in url]


async def test_the_page_stays_as_large_as_it_is() -> None:
    told = Told()
    told.step_s = 5.0
    async with page(told, every_s=0.02) as found:
        await found.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")

        async def size() -> tuple[int, float]:
            await found.do("HeapProfiler.collectGarbage")
            metrics = await found.do("Performance.getMetrics")
            known = {entry["name"]: entry["value"] for entry in metrics["metrics"]}
            return int(known["Nodes"]), known["JSHeapUsedSize"]

        await found.do("Performance.enable")
        await found.until(f"Number(document.body.dataset.now) > {NOW + 5 * 50}", 60)
        nodes, heap = await size()
        await found.until(f"Number(document.body.dataset.now) > {NOW + 5 * 350}", 120)
        later_nodes, later_heap = await size()
        assert later_nodes <= nodes + 60
        assert later_heap <= heap + 400_000


def colours(is_dark: bool) -> dict[str, tuple[float, float, float]]:
    light, dark = re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)[:2]
    names = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})\b", light + (dark if is_dark else "")))
    return {
        name: tuple(int(value[at : at + 2], 16) / 255 for at in (1, 3, 5)) for name, value in names.items()
    }  # type: ignore[misc]


def contrast(one: tuple[float, float, float], other: tuple[float, float, float]) -> float:
    """As WCAG 2.2 defines it."""

    def luminance(colour: tuple[float, float, float]) -> float:
        parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("is_dark", [False, True])
def test_text_has_a_contrast_of_4_5_and_drawings_of_3(is_dark: bool) -> None:
    known = colours(is_dark)
    texts = [(name, behind) for name in ("ink", "soft") for behind in ("paper", "card", "fill")]
    texts += [(name, "card") for name in ("good", "bad", "moving", "focus", "accent")]
    texts += [("bad", "paper"), ("ink", "moving-fill"), ("moving", "moving-fill"), ("ink", "bad-fill")]
    texts += [("on-accent", "accent"), ("paper", "ink"), ("focus", "paper")]
    texts += [("on-c", f"c{number}") for number in range(1, 8)]
    for name, behind in texts:
        assert contrast(known[name], known[behind]) >= 4.5, (name, behind)
    for number in range(1, 8):
        assert contrast(known[f"c{number}"], known["card"]) >= 3
        assert contrast(known[f"c{number}"], known["fill"]) >= 3
