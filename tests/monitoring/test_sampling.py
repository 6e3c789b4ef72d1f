"""Which requests are traced."""

import pytest
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

from headrace.config import TracingConfig
from headrace.trace import TraceContext, new_trace_id
from monitoring.sampling import Allowance, Rules, rules_of


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.3, 1.0])
def test_the_rate_decides_as_every_opentelemetry_sdk_does(rate: float) -> None:
    theirs = TraceIdRatioBased(rate)
    for _ in range(500):
        trace_id = new_trace_id()
        expected = theirs.should_sample(None, trace_id, "x").decision is Decision.RECORD_AND_SAMPLE
        assert Rules(rate).at_start(trace_id, None) is expected


@pytest.mark.parametrize("is_sampled", [True, False])
def test_the_caller_has_decided_already(is_sampled: bool) -> None:
    parent = TraceContext(new_trace_id(), 1, is_sampled)
    for rate in (0.0, 1.0):
        assert Rules(rate).at_start(parent.trace_id, parent) is is_sampled
        assert Rules(rate, follows_parent=False).at_start(parent.trace_id, parent) is bool(rate)


def test_slow_and_failed_ones_are_kept_and_refusals_are_not() -> None:
    rules = Rules(0.0, slower_than_s=0.25)
    assert rules.afterwards(0.25, 200)
    assert rules.afterwards(0.001, 503)
    assert not rules.afterwards(0.249, 200)
    assert not rules.afterwards(0.001, 429)
    assert not Rules(0.0).afterwards(100.0, 200)


@pytest.mark.parametrize(
    ("sampler", "argument", "expected"),
    [
        ("", "", Rules(0.2)),
        ("always_on", "", Rules(1.0, follows_parent=False)),
        ("always_off", "0.5", Rules(0.0, follows_parent=False)),
        ("traceidratio", "0.5", Rules(0.5, follows_parent=False)),
        ("traceidratio", "", Rules(1.0, follows_parent=False)),
        ("parentbased_always_on", "", Rules(1.0)),
        ("ParentBased_TraceIdRatio", "0.125", Rules(0.125)),
    ],
)
def test_the_environment_goes_before_the_rate(sampler: str, argument: str, expected: Rules) -> None:
    environment = {"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": argument}
    assert rules_of(TracingConfig(rate=0.2), environment) == (expected, "")


def test_what_the_environment_says_beside_the_point_is_told_and_ignored() -> None:
    found, problem = rules_of(TracingConfig(rate=0.2), {"OTEL_TRACES_SAMPLER": "sometimes"})
    assert found == Rules(0.2)
    assert "'sometimes'" in problem
    assert "parentbased_traceidratio" in problem
    ratio = {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "7"}
    found, problem = rules_of(TracingConfig(), ratio)
    assert found.rate == 1
    assert "from 0 to 1" in problem


def test_no_more_are_kept_than_the_allowance_a_second() -> None:
    allowance = Allowance(2.0)
    assert [allowance.take(10.0) for _ in range(4)] == [True, True, False, False]
    assert [allowance.take(10.6) for _ in range(2)] == [True, False]
    assert sum(allowance.take(20.0 + n / 100) for n in range(1000)) in (21, 22)
