import math

import numpy as np
import pytest

from headrace.sketch import Sketch, merged


def sketch_of(values: np.ndarray) -> Sketch:
    sketch = Sketch()
    for value in values:
        sketch.add(float(value))
    return sketch


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99, 0.999])
def test_a_quantile_is_within_one_percent_of_the_exact_one(share):
    values = np.random.default_rng(1).lognormal(-4, 1.5, 20_000)
    exact = np.sort(values)[math.ceil(share * len(values)) - 1]
    assert sketch_of(values).quantile(share) == pytest.approx(exact, rel=0.01)


def test_merged_sketches_are_that_of_all_values():
    values = np.random.default_rng(2).lognormal(-3, 1, 3_000)
    assert merged(map(sketch_of, np.split(values, 3))) == sketch_of(values)


def test_what_is_above_a_value_is_counted_up_to_its_own_bin():
    values = np.random.default_rng(3).uniform(0, 1, 10_000)
    found = sketch_of(values).num_above(0.9)
    assert (values > 0.9 * 1.02).sum() <= found <= (values > 0.9).sum()


def test_zero_and_less_count_as_the_smallest():
    sketch = sketch_of(np.array([0.0, -1.0, 1e-12]))
    assert sketch.count == 3
    assert sketch.quantile(1.0) == pytest.approx(1e-9, rel=0.02)


def test_an_empty_sketch_has_no_quantile():
    assert math.isnan(Sketch().quantile(0.5))
    assert Sketch().num_above(1.0) == 0
