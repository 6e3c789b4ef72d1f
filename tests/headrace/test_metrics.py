"""Names, units and labels follow Prometheus' conventions."""

import re
from pathlib import Path

import pytest

from headrace.metrics import ALL, MetricSpec, as_markdown


@pytest.mark.parametrize("spec", ALL, ids=lambda spec: spec.name)
def test_names_follow_the_conventions(spec: MetricSpec) -> None:
    assert re.fullmatch(r"headrace(_[a-z]+)+", spec.name)
    assert spec.name.endswith("_total") == (spec.kind == "counter")
    assert bool(spec.buckets) == (spec.kind == "histogram")
    assert list(spec.buckets) == sorted(set(spec.buckets))


def test_no_name_is_used_twice() -> None:
    assert len({spec.name for spec in ALL}) == len(ALL)


def test_the_page_of_metrics_is_made_of_them() -> None:
    page = Path(__file__).parents[2] / "docs" / "metrics.md"
    assert page.read_text(encoding="utf-8") == as_markdown() + "\n"
