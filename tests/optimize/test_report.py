import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from engines.manifest import SessionOptions
from optimize.goals import Goals, Miss
from optimize.machine import Machine, this_machine
from optimize.measure import TOGGLES, Measured
from optimize.page import as_html
from optimize.report import Report, Row, as_json, as_text


@pytest.fixture
def report():
    return Report(
        model="minilm",
        before=Row("1", "fp32", SessionOptions(), Measured(90_000_000, 4.0, 0.861)),
        after=Row("2", "int8-dynamic", TOGGLES[1], Measured(23_000_000, 1.6, 0.8605, 0.989, 0.967)),
        goals=Goals(max_drop=0.01),
        misses=(),
        machine=Machine("Some CPU", 2, ("avx2",), "Linux x86_64", {"onnxruntime": "1.32.0"}),
        command="headrace optimize recipe.py",
        created="2026-01-01T00:00:00+00:00",
    )


def test_the_text_says_what_was_gained_and_how_to_repeat_it(report):
    text = as_text(report)
    assert "23.0 MB (0.26 of it)" in text
    assert "1.60 ms (2.50 times as fast)" in text
    assert "0.8605 (-0.0005)" in text
    assert "every goal is reached" in text
    assert text.endswith("repeat with: headrace optimize recipe.py")


def test_the_text_names_what_was_missed(report):
    assert "no goal was set" in as_text(replace(report, goals=Goals()))
    missed = replace(report, misses=(Miss("max_drop", 0.01, 0.02),))
    assert "missed max_drop: wanted 0.01, reached 0.02" in as_text(missed)


def test_the_json_holds_every_figure(report):
    told = json.loads(as_json(report))
    assert told["gains"] == pytest.approx({"speedup": 2.5, "size_ratio": 23 / 90, "drop": 0.0005})
    assert told["after"]["session"]["disabled_optimizers"] == ["SkipLayerNormFusion"]
    assert told["before"]["rows_per_s"] == 250
    assert told["goals"]["max_drop"] == 0.01
    assert told["machine"]["cpu"] == "Some CPU"


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_loads_nothing(report):
    page = as_html(report)
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert not {"script", "img", "link", "iframe"} & set(tags.seen)
    assert not re.search(r"https?:|url\(", page)
    assert "prefers-color-scheme: dark" in page
    assert tags.seen.count("circle") == 2


def test_the_page_escapes_what_others_wrote(report):
    evil = "<script>alert(1)</script>\"'&"
    row = replace(report.after, version=evil, precision=evil)
    machine = replace(report.machine, cpu=evil, versions={evil: evil})
    page = as_html(replace(report, model=evil, after=row, machine=machine, command=evil, created=evil))
    assert "<script" not in page


def test_the_page_marks_a_missed_goal(report):
    assert 'class="miss"' not in as_html(report)
    assert 'class="miss">missed' in as_html(replace(report, misses=(Miss("max_drop", 0.01, 0.02),)))


def test_this_machine_names_its_libraries():
    machine = this_machine()
    assert machine.cores >= 1
    assert {"python", "onnxruntime", "numpy"} <= machine.versions.keys()
