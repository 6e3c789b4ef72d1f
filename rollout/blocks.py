"""Long steps in few windows, and windows of a few requests as one (pure)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headrace.tensors import Array
from rollout.evidence import Window, together

_FINE_S = 300  # of a step stay as they are; later windows last a 300th of what went before
_FEWEST = 5  # requests in a window: two that are bad because of one stall are then one event


def condense(windows: Sequence[Window]) -> tuple[Window, ...]:
    """The same with fewer windows: about 2,000 for a day.

    Where windows end depends on the time alone, and what was condensed before can be given again with what
    came since: condense((*condense(old), *new)) is condense((*old, *new)).
    """
    if len(windows) <= _FINE_S and all(window.seconds == 1 for window in windows):
        return tuple(windows)
    found: list[Window] = []
    block: list[Window] = []
    ended_s = lasts_s = 0
    for window in windows:
        block.append(window)
        lasts_s += window.seconds
        if lasts_s >= max(1, ended_s // _FINE_S):
            found.append(_one(block, lasts_s))
            ended_s += lasts_s
            block, lasts_s = [], 0
    if block:
        found.append(_one(block, lasts_s))
    return tuple(found)


def _one(block: Sequence[Window], seconds: int) -> Window:
    if len(block) == 1:
        return block[0]
    return Window(
        together(window.stable for window in block), together(window.candidate for window in block), seconds
    )


def filled(seen: Array, *others: Array) -> tuple[Array, ...]:
    """Neighbouring windows added up until each has `seen` at least five requests; what is left over at the
    end waits for more."""
    if len(seen) and seen.min() >= _FEWEST:
        return seen, *others
    ends, waiting = [0], 0.0
    for number, count in enumerate(seen.tolist(), 1):
        waiting += count
        if waiting >= _FEWEST:
            ends.append(number)
            waiting = 0.0
    return tuple(
        np.add.reduceat(row[: ends[-1]], ends[:-1]) if ends[1:] else row[:0] for row in (seen, *others)
    )
