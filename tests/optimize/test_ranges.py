import numpy as np
import pytest

from headrace.errors import ConfigRejected
from optimize.calibrate import BINS, Statistics
from optimize.ranges import METHODS, determine


def seen(values):
    """Statistics of one tensor with these values."""
    low, high = float(values.min()), float(values.max())
    counts = np.histogram(values, bins=BINS, range=(low, high if high > low else low + 1e-6))[0]
    return Statistics(low={"x": low}, high={"x": high}, counts={"x": counts})


@pytest.fixture
def spread():
    """A normal distribution with a few outliers ten times as far."""
    values = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    values[:5] = 40
    return values


def test_minmax_keeps_all_that_was_seen(spread):
    assert determine(seen(spread), "minmax", False)["x"] == pytest.approx((spread.min(), 40))


def test_percentile_leaves_the_rarest_out(spread):
    low, high = determine(seen(spread), "percentile", False)["x"]
    assert np.mean(spread > high) < 2e-4
    assert 3 < high < 6
    assert -6 < low < -3


def test_entropy_cuts_outliers_off_and_keeps_the_bulk(spread):
    low, high = determine(seen(spread), "entropy", False)["x"]
    assert 2 < high < 20
    assert np.mean((spread < low) | (spread > high)) < 0.05


@pytest.mark.parametrize("method", METHODS)
def test_zero_is_always_inside(method):
    values = np.linspace(5, 6, 1000)
    low, high = determine(seen(values), method, False)["x"]
    assert low == 0.0
    assert high > 5
    low, high = determine(seen(-values), method, False)["x"]
    assert high == 0.0


@pytest.mark.parametrize("method", METHODS)
def test_a_symmetric_range_has_zero_in_its_middle(method, spread):
    low, high = determine(seen(spread), method, True)["x"]
    assert low == -high


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [0.0, 3.0])
def test_a_constant_tensor_has_a_range_that_holds_it(method, value):
    low, high = determine(seen(np.full(10, value)), method, False)["x"]
    assert low <= value <= high + 1e-6


def test_zeros_of_a_relu_do_not_narrow_the_range():
    values = np.maximum(np.random.default_rng(0).standard_normal(10_000), 0)
    assert determine(seen(values), "entropy", False)["x"][1] > 1.5


def test_an_unknown_method_is_told():
    with pytest.raises(ConfigRejected, match="allowed: minmax, percentile, entropy"):
        determine(Statistics(), "best", False)
