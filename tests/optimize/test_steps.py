import pytest

from headrace.errors import ConfigRejected
from optimize.pipeline import least_size
from optimize.steps import (
    DEFAULT,
    Distill,
    Precision,
    PruneChannels,
    PruneWeights,
    QuantizeDynamic,
    QuantizeStatic,
    check_chain,
    named,
    parse_chain,
    written,
)


@pytest.mark.parametrize(
    ("text", "chain"),
    [
        ("int8-dynamic", (QuantizeDynamic(),)),
        ("distill>int8-static", (Distill(), QuantizeStatic())),
        (
            " prune-channels( ratio = 0.3 ) > int8-static(method=entropy, fallback=False)",
            (PruneChannels(ratio=0.3), QuantizeStatic(method="entropy", fallback=False)),
        ),
        ("distill(temperatures=(1.0, 8.0), epochs=2)", (Distill(temperatures=(1.0, 8.0), epochs=2),)),
        ("prune-weights(sparsity=0.9, pattern='2:4')", (PruneWeights(sparsity=0.9, pattern="2:4"),)),
    ],
)
def test_a_chain_is_read_from_text_and_written_back(text, chain):
    assert parse_chain(text) == chain
    assert parse_chain(written(chain)) == chain


def test_only_settings_that_differ_are_written():
    assert written((Distill(), PruneChannels(ratio=0.3))) == "distill > prune-channels(ratio=0.3)"
    assert named((Distill(), PruneChannels(ratio=0.3))) == "distill > prune-channels"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "'' is unknown; write one of int8-dynamic"),
        ("shrink", "'shrink' is unknown"),
        ("distill >", "'' is unknown"),
        ("int8-static(size=3)", "'size=3' of 'int8-static' is unknown; there are: method=None"),
        ("int8-static(method=best)", "'best'; allowed: minmax, percentile, entropy"),
        ("int8-static(smooth=7)", "smooth is 7"),
        ("prune-weights(sparsity=80)", "sparsity is 80; it must be from 0.01 to 0.99"),
        ("prune-weights(pattern='1:2')", "allowed: any, 2:4"),
        ("prune-channels(ratio=1)", "ratio is 1"),
        ("prune-channels(rounds=0)", "rounds is 0"),
        ("prune-channels(rounds=1.5)", "rounds is 1.5"),
        ("distill(alphas=2)", "alphas one from 0 to 1"),
        ("fp16(to=fp8)", "'fp8'; allowed: fp16, bf16"),
        ("int8-static > distill", "'distill' cannot follow 'int8-static'"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(text, told):
    with pytest.raises(ConfigRejected) as refused:
        parse_chain(text)
    assert told in str(refused.value)


def test_a_chain_has_a_step():
    with pytest.raises(ConfigRejected, match="needs a step"):
        check_chain(())


def test_the_least_size_of_a_chain_is_that_of_all_its_steps():
    assert least_size((QuantizeStatic(),)) == 0.25
    assert least_size((PruneWeights(), Precision())) == 0.5
    assert least_size((PruneChannels(), QuantizeStatic())) == 0.0
    assert min(map(least_size, DEFAULT)) == 0.25
