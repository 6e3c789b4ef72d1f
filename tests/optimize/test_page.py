import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from optimize.goals import Goals
from optimize.measure import Toggle
from optimize.page import as_html
from optimize.page_markup import Html, join, table, tag
from optimize.report import Layer
from tests.optimize import samples

EVIL = "<script>alert(1)</script>\"'&"
REPORTS = [samples.small(), samples.large(), samples.missed(), samples.hopeless(), samples.unwieldy()]


class Tags(HTMLParser):
    """Every tag with its attributes, and the text of each section by its heading."""

    def __init__(self, page):
        super().__init__()
        self.open, self.seen, self.sections = [], [], {}
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.sections[data] = ""
        elif self.sections and self.open and data.strip():
            self.sections[list(self.sections)[-1]] += f"{data.strip()} "

    def of(self, name):
        return [attrs for tag, attrs in self.seen if tag == name]


@pytest.mark.parametrize("report", REPORTS)
def test_the_page_is_whole_and_loads_nothing(report):
    page = as_html(report)
    tags = Tags(page)
    assert tags.open == []
    assert not {"script", "img", "link", "iframe"} & {tag for tag, _ in tags.seen}
    assert not re.search(r"https?:|url\(|@import", page)
    policy = next(meta for meta in tags.of("meta") if "http-equiv" in meta)
    assert policy["content"] == "default-src 'none'; style-src 'unsafe-inline'"
    assert "prefers-color-scheme: dark" in page


def test_the_page_escapes_what_others_wrote():
    toggle, layer = Toggle(EVIL, 1.0, True), Layer(EVIL, EVIL, 0.5)
    row = replace(
        samples.CHOSEN,
        name=EVIL,
        steps=(EVIL, EVIL),
        engine=EVIL,
        precision=EVIL,
        version=EVIL,
        reason=EVIL,
        stages={EVIL: EVIL},
        toggles=(toggle,),
        facts={EVIL: 1.0},
        measured=replace(samples.CHOSEN.measured, latencies=samples.latencies(1.0, 4.0, EVIL)),
    )
    page = as_html(
        replace(
            samples.small(),
            model=EVIL,
            original=replace(samples.ORIGINAL, name=EVIL, engine=EVIL),
            candidates=(row, replace(samples.REFUSED, name=EVIL, reason=EVIL)),
            sensitivity=(layer,),
            machine=replace(samples.MACHINE, cpu=EVIL, flags=(EVIL,), versions={EVIL: EVIL}),
            command=EVIL,
            created=EVIL,
        )
    )
    assert "<script" not in page
    assert page.count("alert(1)") > 30
    assert Tags(page).open == []


@pytest.mark.parametrize("report", REPORTS)
def test_a_screen_reader_finds_its_way(report):
    tags = Tags(as_html(report))
    names = [tag for tag, _ in tags.seen]
    assert tags.of("html")[0]["lang"] == "en"
    assert names.count("h1") == names.count("main") == 1
    assert names.count("caption") == names.count("table")
    assert all("scope" in attrs for attrs in tags.of("th"))
    ids = [attrs["id"] for _, attrs in tags.seen if "id" in attrs]
    assert len(ids) == len(set(ids))
    for drawing in tags.of("svg"):
        if drawing.get("aria-hidden") != "true":
            assert drawing["role"] == "img"
            assert set(drawing["aria-labelledby"].split()) <= set(ids)


def test_the_headline_says_what_was_chosen_and_what_it_brings():
    page = as_html(samples.small())
    assert (
        "int8-static on ONNX Runtime is chosen: 2.50 times as fast as fp32 on ONNX Runtime, "
        "0.26 of its size, accuracy 0.8605 (-0.0005)."
    ) in page


def test_the_headline_says_that_nothing_was_good_enough_and_what_came_nearest():
    assert "No version was chosen. int8-dynamic on ONNX Runtime came nearest but misses" in as_html(
        samples.missed()
    )
    assert "none could be measured (1 refused, 1 failed)" in as_html(samples.hopeless())


def test_every_version_is_listed_with_its_reason():
    told = Tags(as_html(samples.large())).sections["Versions"]
    for row in samples.large().candidates:
        assert row.name in told
        assert row.reason in told
    assert "fp32 on ONNX Runtime: 90.0 MB, 4.00 ms, accuracy 0.8610" in told
    assert "2.50 times as fast" in told


def test_the_plot_describes_each_version_in_words():
    page = as_html(samples.small())
    assert page.count(">minilm: accuracy against latency</title>") == 2  # on a wide and on a narrow screen
    assert (
        "int8-static on ONNX Runtime, chosen: 1.60 ms, accuracy 0.8605, 23.0 MB, on the Pareto front." in page
    )


def test_nothing_is_plotted_where_there_is_nothing_to_compare():
    assert "Accuracy against latency" not in as_html(samples.hopeless())


def test_a_chain_tells_what_each_step_cost():
    told = Tags(as_html(samples.large())).sections["Accuracy by step"]
    assert "original 0.8610 90.0 MB distill 0.8480 -0.0130 by this step" in told
    assert "-0.0021 by this step, 4.1 MB" in told
    assert told.count("original") == 1  # the chain within the longer one is not told again
    alone = replace(samples.large(), candidates=samples.large().candidates[8:9])
    assert "distill not measured alone" in Tags(as_html(alone)).sections["Accuracy by step"]
    assert "Accuracy by step" not in Tags(as_html(samples.small())).sections


def test_at_most_thirty_layers_are_drawn_and_the_rest_is_counted():
    told = Tags(as_html(samples.large())).sections["What each layer costs"]
    assert told.count("MatMul MatMul") == 30
    assert "12 more" in told
    assert "more" not in Tags(as_html(samples.small())).sections["What each layer costs"]
    assert "What each layer costs" not in Tags(as_html(samples.hopeless())).sections


def test_latencies_state_batch_shape_threads_spread_and_ratio():
    told = Tags(as_html(samples.small())).sections["Latency by batch and shape"]
    assert "batch 8 length 39 1 25.0 ms 23.8 ms to 27.7 ms 321 62.4 ms 2.50 times as fast" in told


def test_stages_facts_and_fusions_tell_how_a_version_was_made():
    told = Tags(as_html(samples.small())).sections["How each version was made"]
    for text in ("calibration 128 rows, entropy", "conversion Q/DQ, U8S8", "compressed size 17.3 MB"):
        assert text in told
    assert "every fusion 2.10 ms no without SkipLayerNormFusion 1.60 ms yes" in told


def test_the_page_marks_a_missed_goal():
    reports = {"small": samples.small(), "missed": samples.missed(), "hopeless": samples.hopeless()}
    told = {name: Tags(as_html(report)).sections["Goals"] for name, report in reports.items()}
    assert "0.01 0.0005 reached" in told["small"]
    assert "0.01 0.021 missed" in told["missed"]
    assert "nothing was measured missed" in told["hopeless"]
    assert "No goal was set" in as_html(replace(samples.small(), goals=Goals()))


def test_the_page_says_where_when_and_how_to_repeat_it():
    tags = Tags(as_html(samples.small()))
    assert "Some CPU" in tags.sections["Measured on"]
    assert "onnxruntime 1.32.0" in tags.sections["Measured on"]
    assert samples.small().command in tags.sections["Repeat"]
    assert "2026-01-01T00:00:00+00:00, took 2 min 5 s" in tags.sections["Repeat"]


def test_only_what_a_tag_made_stays_markup():
    assert tag("p", "<b>", tag("b", "x"), title='"') == '<p title="&quot;">&lt;b&gt;<b>x</b></p>'
    assert tag("circle", cx=1.0, r=2.126, class_=None) == '<circle cx="1" r="2.13"/>'
    assert join("<", Html("<br>"), by="&") == "&lt;&<br>"


def test_cells_of_a_table_name_their_column():
    made = table("c", ("a", "b"), [("1", "2")])
    assert '<td role="cell" data-label="b">2</td>' in made
    assert '<th scope="row" role="rowheader">1</th>' in made
