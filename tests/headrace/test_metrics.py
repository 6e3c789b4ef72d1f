"""Names, units and labels follow Prometheus' conventions."""

import re

import pytest

from headrace.metrics import ALL, MetricSpec


@pytest.mark.parametrize("spec", ALL, ids=lambda spec: spec.name)
def test_names_follow_the_conventions(spec: MetricSpec) -> None:
    assert re.fullmatch(r"headrace(_[a-z]+)+", spec.name)
    assert spec.name.endswith("_total") == (spec.kind == "counter")
    assert bool(spec.buckets) == (spec.kind == "histogram")
    assert list(spec.buckets) == sorted(set(spec.buckets))


def test_no_name_is_used_twice() -> None:
    assert len({spec.name for spec in ALL}) == len(ALL)
