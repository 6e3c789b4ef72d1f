"""Which grouping suits a model, by what its batches were measured to take (pure)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import mean
from typing import Literal, Protocol

from batching.shapes import Sizes, can_pad
from headrace.tensors import Signature

_LEAST_GAIN = 1.05  # less is noise, and padding would cost more than that


class Latency(Protocol):
    """Milliseconds of a batch of one shape."""

    @property
    def batch(self) -> int: ...
    @property
    def sizes(self) -> Sizes: ...
    @property
    def threads(self) -> int: ...
    @property
    def median_ms(self) -> float: ...


def may_pad(recommended: str, signature: Signature) -> bool:
    """True when padding was found to leave a model's answers as they are, and can be cut back."""
    return recommended == "nearest" and can_pad(signature)


def auto_grouping(pads: bool, latencies: Sequence[Latency], threads: int = 1) -> Literal["exact", "nearest"]:
    """`nearest` for a model that may be padded, unless its latencies show that batches gain nothing."""
    if not pads:
        return "exact"
    gain = gain_of_batching(latencies, threads)
    return "exact" if gain is not None and gain < _LEAST_GAIN else "nearest"


def gain_of_batching(latencies: Sequence[Latency], threads: int) -> float | None:
    """How many times faster a row is in its best batch than alone, the mean over the measured shapes.

    Figures for another number of threads are taken when there are none for this one; None when no shape
    was measured both alone and in a batch.
    """
    fitting = [entry for entry in latencies if entry.threads == threads] or latencies
    by_shape: dict[tuple[tuple[str, int], ...], dict[int, float]] = defaultdict(dict)
    for entry in fitting:
        by_shape[tuple(sorted(entry.sizes.items()))][entry.batch] = entry.median_ms / entry.batch
    gains = [
        row_ms[1] / min(batched)
        for row_ms in by_shape.values()
        if 1 in row_ms and (batched := [ms for batch, ms in row_ms.items() if batch > 1]) and min(batched) > 0
    ]
    return mean(gains) if gains else None
