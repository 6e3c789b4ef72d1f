"""Two releases of an engine's library on the same version of a model, measured in turns on this machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from engines.artifact import Artifact
from optimize.demand import draw, known_shapes
from optimize.instance import Instance, Order

ROUNDS = 20
_RANKS = 5, 14  # of 20 sorted: the median lies between the two with a confidence of 95.9% (signs)
_DRAWN = 256  # requests
_WAITING = 64


@dataclass(frozen=True, slots=True)
class Ratio:
    """Rows per second there as a multiple of those here, and the bounds of its confidence interval of 95%."""

    value: float
    low: float
    high: float


def compare(
    artifact: Artifact, python: Path, threads: int, batching: dict[str, Any], seconds: float = 20.0
) -> Ratio:
    """An engine of this environment beside one of another, which `python` is the interpreter of; `seconds`
    in all. Raises what an engine raises that cannot load or run the version."""
    sizes = [dict(size) for size in draw(known_shapes(artifact.manifest), _DRAWN)]
    turn_s = seconds / (2 * ROUNDS)
    with ExitStack() as stack:
        here, other = (stack.enter_context(Instance(artifact, where)) for where in (None, python))
        for process in (here, other):
            _rate(process, Order(threads, batching, sizes, _WAITING, 0.0), 0.0)
        ratios = []
        for number in range(ROUNDS):
            pair = (here, other) if number % 2 else (other, here)
            rates = {}
            for process in pair:
                until = time.monotonic() + turn_s
                rates[process] = _rate(process, Order(threads, batching, sizes, _WAITING, until), until)
            ratios.append(rates[other] / rates[here])
    return ratio_of(ratios)


def ratio_of(ratios: Sequence[float]) -> Ratio:
    """Of as many rounds as there are; their median needs no distribution."""
    assert len(ratios) == ROUNDS
    ordered = sorted(ratios)
    return Ratio(median(ordered), ordered[_RANKS[0]], ordered[_RANKS[1]])


def _rate(process: Instance, order: Order, until: float) -> float:
    process.tell(order)
    ran = process.hear(until)
    return ran.rows / ran.seconds if ran.seconds else 0.0
