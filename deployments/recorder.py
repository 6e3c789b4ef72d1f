"""What was asked of late, for sizing a cache."""

from __future__ import annotations

import time
from collections import deque

from headrace.requests import Ran

_MOST = 100_000  # requests until somebody collects them; then the oldest go

Row = tuple[
    float, str, int, float
]  # when (Unix time), the key in hex, bytes of the answer, seconds of the engine


class Recorder:
    """Of one gateway; notes nothing until it is told to."""

    def __init__(self) -> None:
        self.is_on = False
        self._rows: deque[Row] = deque(maxlen=_MOST)

    def turn(self, is_on: bool) -> None:
        self.is_on = is_on
        self._rows.clear()

    def note(self, key: bytes, ran: Ran) -> None:
        timings = ran.timings
        cost_s = timings.saved_s or timings.ran_s / max(1, timings.batch_rows)
        num_bytes = sum(array.nbytes for array in ran.outputs.values())
        self._rows.append((time.time(), key.hex(), num_bytes, cost_s))

    def collect(self) -> list[Row]:
        rows = list(self._rows)
        self._rows.clear()
        return rows
