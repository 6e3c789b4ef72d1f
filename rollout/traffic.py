"""What a version did, as its metrics tell: counts of requests, errors and hits, and latencies in bins."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from headrace import errors

SECONDS_PER_MONTH = 730 * 3600.0
_HIT = frozenset({"memory", "redis"})


def _kinds(root: type[errors.HeadraceError]) -> frozenset[str]:
    below = (_kinds(kind) for kind in root.__subclasses__())
    return frozenset({root.kind}).union(*below)


CALLERS_MISTAKES = _kinds(errors.CallerError)  # they say nothing about the server


@dataclass(frozen=True, slots=True)
class Quantile:
    """A latency as a histogram knows it: it lies between two edges, `value_s` is where it would be if those
    of one bin lay evenly."""

    value_s: float
    low_s: float
    high_s: float  # infinite in the last bin


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many values there were up to each edge; the last edge is infinite."""

    edges: tuple[float, ...] = (math.inf,)
    counts: tuple[float, ...] = (0.0,)  # up to and including the edge

    @property
    def count(self) -> float:
        return self.counts[-1]

    def quantile(self, share: float) -> Quantile | None:
        """What `share` (0 to 1) of all are not above; None where there is none."""
        if not self.count:
            return None
        wanted = share * self.count
        at = next(number for number, count in enumerate(self.counts) if count >= wanted)
        low, high = (self.edges[at - 1] if at else 0.0), self.edges[at]
        if math.isinf(high):
            return Quantile(low, low, high)
        below = self.counts[at - 1] if at else 0.0
        return Quantile(low + (high - low) * (wanted - below) / (self.counts[at] - below), low, high)

    def least_above(self, value: float) -> float:
        """How many are above `value` for certain: those of the bin that it lies in are not counted."""
        edge = next(number for number, edge in enumerate(self.edges) if edge >= value)
        return self.count - self.counts[edge]


@dataclass(frozen=True, slots=True)
class Traffic:
    """What was counted of one version. `seconds` is how long that took, None where nobody knows."""

    seconds: float | None = None
    latency: Histogram = Histogram()  # of answered requests, in seconds
    errors: Mapping[str, float] = field(default_factory=dict)  # by kind
    tiers: Mapping[str, float] = field(default_factory=dict)  # requests by where the answer came from
    saved_s: float = 0.0  # of engines, by remembered answers
    engine_s: float = 0.0  # that engines took for batches
    batches: float = 0.0
    rows: float = 0.0  # of these batches

    @property
    def answered(self) -> float:
        return self.latency.count

    @property
    def failed(self) -> float:
        """Requests that got an error which was not their caller's mistake."""
        return sum(count for kind, count in self.errors.items() if kind not in CALLERS_MISTAKES)

    @property
    def error_share(self) -> float | None:
        """Of the requests that were in order; None where there were none."""
        whole = self.answered + self.failed
        return self.failed / whole if whole else None

    @property
    def lookups(self) -> float:
        return sum(self.tiers.values())

    @property
    def hit_rate(self) -> float | None:
        """The share of lookups that a cache answered; None where none was asked."""
        hits = sum(count for tier, count in self.tiers.items() if tier in _HIT)
        return hits / self.lookups if self.lookups else None

    @property
    def per_s(self) -> float | None:
        return self.answered / self.seconds if self.seconds else None

    def per_month(self, count: float) -> float | None:
        """So many in this time, as so many in a month."""
        return count / self.seconds * SECONDS_PER_MONTH if self.seconds else None

    def busy(self, engines: int) -> float | None:
        """The share of the time in which so many engines computed."""
        return self.engine_s / (self.seconds * engines) if self.seconds and engines else None
