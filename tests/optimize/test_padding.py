import numpy as np

from headrace.tensors import Signature, TensorSpec
from optimize.padding import row_of, stack

SIGNATURE = Signature((TensorSpec("x", "INT64", ("batch", "h", "w"), pad=-1),), ())


def test_rows_are_padded_behind_to_the_largest_of_each_dimension():
    rows = [{"x": np.full((1, 1, 3), 1)}, {"x": np.full((1, 2, 1), 2)}]
    assert stack(SIGNATURE, rows)["x"].tolist() == [[[1, 1, 1], [-1, -1, -1]], [[2, -1, -1], [2, -1, -1]]]


def test_a_row_comes_out_as_it_went_in():
    rows = [{"x": np.arange(3).reshape(1, 1, 3)}, {"x": np.arange(2).reshape(1, 2, 1)}]
    together = stack(SIGNATURE, rows)
    for number, row in enumerate(rows):
        np.testing.assert_array_equal(row_of(together, number, row)["x"], row["x"][0])


def test_one_number_for_each_row_needs_no_padding():
    signature = Signature((TensorSpec("x", "FP32", ("batch",)),), ())
    assert stack(signature, [{"x": np.ones(1)}, {"x": np.zeros(1)}])["x"].tolist() == [1, 0]
