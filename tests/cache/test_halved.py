from __future__ import annotations

import numpy as np

from cache.halved import Halved
from headrace.tensors import Signature, TensorSpec

SIGNATURE = Signature(
    (),
    tuple(
        TensorSpec(name, dtype, ("batch", 2))
        for name, dtype in (("y", "FP32"), ("h", "FP16"), ("n", "INT64"))
    ),
)
Y = np.array([[1.0001, -3.5]], np.float32)


def test_fp32_is_kept_in_half_the_room_and_given_as_fp32_again() -> None:
    halved = Halved(SIGNATURE)
    outputs = {"y": Y, "h": Y.astype(np.float16), "n": np.array([[1, 2]])}
    kept = halved.narrow(outputs)
    assert kept["y"].nbytes == Y.nbytes // 2
    given = halved.widen(kept)
    assert {name: array.dtype for name, array in given.items()} == {
        name: array.dtype for name, array in outputs.items()
    }
    assert given["y"].tolist() == [[float(np.float16(1.0001)), -3.5]]
    assert not given["y"].flags.writeable


def test_what_fp16_cannot_hold_stays_as_it_is() -> None:
    halved = Halved(SIGNATURE)
    for value in (1e6, -1e6):
        array = np.array([[value, 1.0001]], np.float32)
        assert halved.widen(halved.narrow({"y": array}))["y"].tolist() == array.tolist()


def test_infinite_and_unknown_values_are_kept() -> None:
    array = np.array([[np.inf, np.nan]], np.float32)
    found = Halved(SIGNATURE).narrow({"y": array})["y"]
    assert found.dtype == np.float16
    assert np.isinf(found[0, 0])
    assert np.isnan(found[0, 1])
