"""What versions are measured with: shapes and batches, requests for a full queue, the set-up (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from batching.grouping import auto_grouping, may_pad
from batching.learn import Seen
from batching.shapes import Sizes, elements
from engines.manifest import Manifest
from headrace.config import BatchingConfig
from headrace.tensors import Signature
from optimize.demand import draw
from optimize.instance import Calls, Order
from optimize.measure import BATCHES

LATENCY_TURN_S = 0.005  # short turns are many pairs, and old and new meet the same noise
FULL_TURN_S = 0.025  # of an engine that always has more to do
_WAITING = 64  # requests in its queue
_DRAWN = 256

Kind = Literal["p50", "p95", "throughput", "cost"]


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure, the less the better: seconds of a call with a whole batch of one shape, or seconds (of
    the CPU: `cost`) per row when there is always more to do."""

    kind: Kind
    batch: int = 0
    sizes: tuple[tuple[str, int], ...] = ()

    @property
    def shape(self) -> str:
        return ", ".join([f"batch {self.batch}", *(f"{dim} {size}" for dim, size in self.sizes)])

    def __str__(self) -> str:
        names = {
            "p50": "median latency",
            "p95": "P95 latency",
            "throughput": "throughput",
            "cost": "CPU cost",
        }
        return f"{names[self.kind]}, {self.shape}" if self.batch else names[self.kind]


@dataclass(frozen=True, slots=True)
class Workload:
    """The same for every version that is compared. `order` fills a queue of mixed sizes."""

    shapes: tuple[Sizes, ...]  # of rows
    batches: tuple[int, ...]
    threads: int
    order: Order

    def calls(self, batches: Sequence[int]) -> list[Calls]:
        """One for each shape in each of these batches, as far as the workload has them."""
        chosen = [batch for batch in self.batches if batch in batches]
        return [
            Calls(self.threads, dict(sizes), batch, LATENCY_TURN_S)
            for sizes in self.shapes
            for batch in chosen
        ]


def workload(manifest: Manifest, seen: Sequence[Seen], cores: int) -> Workload:
    """The shortest, the middle and the longest of the shapes that were seen; the set-up that the version
    is tuned for, where that is for as many cores, else the one that runs untuned."""
    signature = manifest.signature
    tuned = manifest.tuned if manifest.tuned and manifest.tuned.machine.cores == cores else None
    plain = BatchingConfig()
    grouping = auto_grouping(may_pad(manifest.grouping, signature), manifest.latencies)
    batching: dict[str, Any] = {
        "grouping": tuned.grouping if tuned else grouping,
        "max_batch": tuned.max_batch if tuned else plain.max_batch,
        "max_padding": tuned.max_padding if tuned else plain.max_padding,
        "buckets": [dict(bucket) for bucket in tuned.buckets]
        if tuned and tuned.grouping == "buckets"
        else [],
        "oversize": "exact",
    }
    if not signature.is_batchable:
        batching["max_batch"] = 1
    threads = tuned.threads if tuned else 1
    drawn = [dict(sizes) for sizes in draw(seen, _DRAWN)]
    batches = BATCHES if signature.is_batchable else BATCHES[:1]
    return Workload(
        _spread(seen, signature), batches, threads, Order(threads, batching, drawn, _WAITING, 0.0)
    )


def measures_of(calls: Calls) -> tuple[Measure, Measure]:
    """Median and P95 of such calls."""
    sizes = tuple(calls.sizes.items())
    return Measure("p50", calls.batch, sizes), Measure("p95", calls.batch, sizes)


def _spread(seen: Sequence[Seen], signature: Signature) -> tuple[Sizes, ...]:
    size_of = partial(elements, signature.inputs)
    shapes = sorted((sizes for sizes, _ in seen), key=size_of)
    chosen = [shapes[0], shapes[len(shapes) // 2], shapes[-1]]
    return tuple(sizes for number, sizes in enumerate(chosen) if sizes not in chosen[:number])
