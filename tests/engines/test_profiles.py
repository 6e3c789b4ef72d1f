from __future__ import annotations

import pytest

from engines.profiles import Profile, choose, make_profiles
from headrace.errors import ConfigRejected, TensorRejected
from headrace.tensors import Signature, TensorSpec

TEXT = Signature(
    (TensorSpec("ids", "INT64", ("batch", "length")), TensorSpec("mask", "INT64", ("batch", "length"))),
    (TensorSpec("embedding", "FP32", ("batch", 384)),),
    {"length": 256},
)
IMAGE = Signature(
    (TensorSpec("image", "FP32", ("batch", 3, "height", "width")),), (TensorSpec("y", "FP32", ("batch", 10)),)
)
FIXED = Signature((TensorSpec("x", "FP32", (4, 16)),), (TensorSpec("y", "FP32", (4, 16)),))


def test_each_bucket_has_a_profile_that_begins_where_the_one_before_ends() -> None:
    found = make_profiles(TEXT, 16, [{"length": 256}, {"length": 64}, {"length": 128}])
    assert [one.smallest for one in found] == [
        {"batch": 1, "length": 1},
        {"batch": 1, "length": 65},
        {"batch": 1, "length": 129},
    ]
    assert [one.largest for one in found] == [{"batch": 16, "length": size} for size in (64, 128, 256)]
    assert found[1].usual == found[1].largest  # requests are padded to it


def test_without_buckets_halves_of_the_largest_size_are_taken() -> None:
    assert [one.largest["length"] for one in make_profiles(TEXT, 8)] == [32, 64, 128, 256]
    short = Signature(TEXT.inputs, TEXT.outputs, {"length": 20})
    assert [one.largest["length"] for one in make_profiles(short, 8)] == [20]


def test_where_the_batch_alone_varies_single_rows_have_a_profile_of_their_own() -> None:
    x = TensorSpec("x", "FP32", ("batch", 16))
    fixed = Signature((x,), (x,))
    one, more = make_profiles(fixed, 8)
    assert (one.smallest, one.largest) == ({"batch": 1}, {"batch": 1})
    assert (more.smallest, more.usual, more.largest) == ({"batch": 2}, {"batch": 8}, {"batch": 8})
    assert [choose((one, more), {"batch": rows}) for rows in (1, 2, 8)] == [0, 1, 1]
    assert len(make_profiles(fixed, 1)) == 1


def test_ranges_of_several_dimensions_overlap_and_the_first_that_holds_is_taken() -> None:
    found = make_profiles(IMAGE, 4, [{"height": 64, "width": 32}, {"height": 32, "width": 32}])
    assert [one.largest["height"] for one in found] == [32, 64]
    assert choose(found, {"batch": 2, "height": 20, "width": 30}) == 0
    assert choose(found, {"batch": 2, "height": 33, "width": 30}) == 1


def test_a_model_of_one_shape_has_one_profile() -> None:
    (found,) = make_profiles(FIXED, 16)
    assert found.shapes(FIXED.inputs[0]) == ((4, 16), (4, 16), (4, 16))
    assert choose((found,), {}) == 0


def test_shapes_of_a_tensor_are_those_at_the_three_sizes() -> None:
    profile = Profile({"batch": 1, "length": 9}, {"batch": 8, "length": 16}, {"batch": 16, "length": 16})
    assert profile.shapes(TEXT.inputs[0]) == ((1, 9), (8, 16), (16, 16))


def test_a_dimension_that_may_be_as_large_as_it_likes_is_named() -> None:
    with pytest.raises(ConfigRejected, match="dimension 'height' has no largest size"):
        make_profiles(IMAGE, 4)


@pytest.mark.parametrize(
    ("sizes", "nearest"),
    [
        ({"batch": 17, "length": 100}, "batch 1 to 16 and length 65 to 128"),
        ({"batch": 1, "length": 300}, "batch 1 to 16 and length 129 to 256"),
        ({"batch": 17, "length": 1}, "batch 1 to 16 and length 1 to 64"),
    ],
)
def test_outside_every_profile_the_nearest_one_is_named(sizes: dict[str, int], nearest: str) -> None:
    profiles = make_profiles(TEXT, 16, [{"length": 64}, {"length": 128}, {"length": 256}])
    with pytest.raises(TensorRejected, match=nearest):
        choose(profiles, sizes)
