import pytest

from headrace.errors import ConfigRejected
from rollout.guards import Guard, parse_guard, parse_guards
from rollout.plan import Plan


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("p99<=1.2x", Guard("p99<=1.2x", "p99", "ratio", 1.2)),
        ("p99.9 <= +20ms", Guard("p99.9 <= +20ms", "p99.9", "difference", 0.02)),
        ("p50<=0.25s", Guard("p50<=0.25s", "p50", "absolute", 0.25)),
        ("errors<=+0.5%", Guard("errors<=+0.5%", "errors", "difference", 0.005)),
        ("errors<=0.01", Guard("errors<=0.01", "errors", "absolute", 0.01)),
        ("drift<=0.01", Guard("drift<=0.01", "drift", "absolute", 0.01)),
        ("cosine>=0.98", Guard("cosine>=0.98", "cosine", "absolute", 0.98)),
        ("accuracy>=-1%", Guard("accuracy>=-1%", "accuracy", "difference", 0.01)),
        ("accuracy>=90%", Guard("accuracy>=90%", "accuracy", "absolute", 0.9)),
    ],
)
def test_a_guard_is_a_measure_and_its_bound(text, wanted):
    found = parse_guard(text)
    assert found == wanted
    assert found.bound == pytest.approx(wanted.bound)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("p99", "cannot be understood"),
        ("p99<1.2x", "cannot be understood"),
        ("", "cannot be understood"),
        ("p99<=fast", "cannot be understood"),
        ("speed<=1.2x", "'speed' is not measured"),
        ("p0<=1.2x", "'p0' is not measured"),
        ("p100<=1.2x", "'p100' is not measured"),
        ("p99>=1.2x", "bounded by <="),
        ("accuracy<=90%", "bounded by >="),
        ("p99<=0.9x", "1x or more"),
        ("p99<=5%", "a latency is bounded by"),
        ("p99<=0ms", "a latency is bounded by"),
        ("errors<=1.2x", "bounded by a share"),
        ("errors<=-1%", "bounded by a share"),
        ("drift<=+1%", "bounded by a share"),
        ("drift<=200%", "bounded by a share"),
        ("cosine>=1", "bounded by a share"),
    ],
)
def test_what_is_no_guard_is_refused_with_what_one_looks_like(text, why):
    with pytest.raises(ConfigRejected, match=why):
        parse_guard(text)


def test_a_guard_that_never_can_be_evaluated_is_refused():
    with pytest.raises(ConfigRejected, match="--shadow"):
        parse_guards(["drift<=0.01"], is_shadowed=False, has_feedback=True)
    with pytest.raises(ConfigRejected, match="feedback"):
        parse_guards(["accuracy>=-1%"], is_shadowed=True, has_feedback=False)
    assert len(parse_guards(["drift<=0.01", "accuracy>=-1%"], is_shadowed=True, has_feedback=True)) == 2


def test_two_guards_of_one_measure_are_refused():
    with pytest.raises(ConfigRejected, match="one for p99 already"):
        parse_guards(["p99<=1.2x", "p99<=20ms"], is_shadowed=False, has_feedback=False)


def test_the_default_guards_can_be_parsed():
    assert [guard.measure for guard in Plan().parsed_guards()] == ["p50", "p99", "errors"]


@pytest.mark.parametrize("steps", [(5.0, 1.0, 100.0), (1.0, 50.0), (1.0, 1.0, 100.0), ()])
def test_steps_must_rise_to_a_hundred(steps):
    with pytest.raises(ValueError, match=r"must rise|at least 1"):
        Plan(steps=steps)
