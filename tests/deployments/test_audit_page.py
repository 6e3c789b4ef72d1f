"""An audit as tables and as a page."""

from __future__ import annotations

import math
from html.parser import HTMLParser

from rich.console import Console

from deployments.audit_page import as_html, as_tables
from rollout.audit import audit
from rollout.facts import Recorded
from rollout.traffic import Histogram
from tests.rollout.audit_samples import everything, facts, model, traffic


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, _: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.words += data


def shown(width: int = 100) -> str:
    console = Console(width=width)
    with console.capture() as captured:
        for table in as_tables(everything()):
            console.print(table)
    return captured.get()


def test_the_page_tells_every_finding_with_its_command_and_loads_nothing() -> None:
    found = everything()
    page = Page(as_html(found))
    for finding in found.findings:
        assert finding.found in page.words
        assert finding.command in page.words
    assert "6 things to do" in page.words
    assert "something" in page.words  # that is not known
    assert not {"script", "link", "img"} & set(page.tags)


def test_a_page_escapes_what_it_shows() -> None:
    named = model(command="headrace optimize '<b>.py'", baseline=Recorded())
    text = as_html(audit(facts(named, unknown=("<script>alert(1)</script>",))))
    assert "<script>" not in text


def test_a_page_with_nothing_to_do_says_so() -> None:
    page = Page(as_html(audit(facts(model()))))
    assert "Nothing to do" in page.words
    assert "No server was asked" in page.words


def test_the_tables_fit_a_narrow_terminal() -> None:
    text = shown(80)
    assert max(map(len, text.splitlines())) <= 80
    assert "m/2" in text
    assert "0 to 10 ms" in shown(140)


def test_a_latency_beyond_the_last_edge_is_told_as_such() -> None:
    late = Histogram((0.01, math.inf), (0.0, 5.0))
    assert "over 10 ms" in as_html(audit(facts(model(lately=traffic(latency=late)))))
