import numpy as np

from engines.examples import example_inputs
from headrace.tensors import DTYPES, Signature, TensorSpec


def test_without_a_seed_masks_are_ones_and_values_lowest(signature):
    inputs = example_inputs(signature, {"batch": 2, "length": 3})
    assert inputs["ids"].tolist() == [[0, 0, 0]] * 2
    assert inputs["mask"].tolist() == [[1, 1, 1]] * 2


def test_with_a_seed_values_are_random_within_bounds_and_the_same_each_time(signature):
    first, second = (example_inputs(signature, {"batch": 4, "length": 16}, seed=1) for _ in range(2))
    signature.check(first)
    assert len(set(first["ids"].ravel())) > 10
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])


def test_every_dtype_has_examples():
    signature = Signature(tuple(TensorSpec(dtype, dtype, ("batch", 2)) for dtype in DTYPES), ())
    for seed in (None, 0):
        assert signature.check(example_inputs(signature, {}, seed)) == {"batch": 1}
