"""A model that takes a known time and no CPU, so that many replicas of it fit on a small machine.

Published as Python code, it sleeps `BASE_S` for a batch and `ROW_S` for each of its rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from headrace.tensors import Signature, TensorMap, TensorSpec

BASE_S = 0.1
ROW_S = 0.0125  # a batch of eight takes 200 ms


def signature() -> Signature:
    return Signature(
        (TensorSpec("x", "FP32", ("batch", 4)),),
        (TensorSpec("y", "FP32", ("batch", 4)),),
    )


def load(_: Path) -> Callable[[list[TensorMap]], Sequence[TensorMap]]:
    def run(requests: list[TensorMap]) -> list[TensorMap]:
        rows = sum(len(request["x"]) for request in requests)
        time.sleep(BASE_S + rows * ROW_S)
        return [{"y": 2 * request["x"]} for request in requests]

    return run
