"""What a run came to, simulated or real: latencies, misses of the objective, replica-hours (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from headrace.tensors import Array


@dataclass(frozen=True, slots=True)
class Second:
    """How things stood at the beginning of a second."""

    arrivals: int  # in it
    queue_rows: int  # that wait, anywhere
    running: int
    starting: int
    stopping: int
    p99_s: float  # of the requests that came in it; NaN when none was answered


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """Latencies are in the order of arrival, NaN for what was refused."""

    policy: str
    objective_s: float
    latency: Array
    seconds: Sequence[Second]
    replica_s: float  # of all replicas, from being asked for to being gone
    running_s: float  # of that, able to answer
    busy_s: float  # of that, a batch in the engine
    targets: Sequence[int]  # that were asked for, one after the other

    @property
    def refused(self) -> int:
        return int(np.isnan(self.latency).sum())

    @property
    def misses(self) -> int:
        """Requests that were refused, or answered later than the objective."""
        return int((~(self.latency <= self.objective_s)).sum())

    @property
    def miss_share(self) -> float:
        return self.misses / max(1, len(self.latency))

    @property
    def replica_hours(self) -> float:
        return self.replica_s / 3600

    @property
    def utilization(self) -> float:
        return self.busy_s / self.running_s if self.running_s else 0.0

    @property
    def changes(self) -> int:
        return max(0, len(self.targets) - 1)

    @property
    def reversals(self) -> int:
        """Changes in the other direction than the one before."""
        steps = [after - before for before, after in pairwise(self.targets)]
        return sum(one * other < 0 for one, other in pairwise(steps))

    @property
    def most_replicas(self) -> int:
        return max((second.running for second in self.seconds), default=0)

    def percentile_s(self, percent: float) -> float:
        """Latency of what was answered; NaN when nothing was."""
        return percentile(self.latency, percent)

    def figures(self) -> dict[str, float]:
        """All of it in numbers."""
        return {
            "requests": len(self.latency),
            "p50_s": self.percentile_s(50),
            "p95_s": self.percentile_s(95),
            "p99_s": self.percentile_s(99),
            "misses": self.misses,
            "miss_share": self.miss_share,
            "refused": self.refused,
            "replica_hours": self.replica_hours,
            "utilization": self.utilization,
            "most_replicas": self.most_replicas,
            "changes": self.changes,
            "reversals": self.reversals,
        }


def percentile(latency: Array, percent: float) -> float:
    """Of what was answered; NaN when nothing was."""
    known = latency[~np.isnan(latency)]
    return float(np.percentile(known, percent)) if len(known) else float("nan")


def by_second(times: Array, latency: Array, count: int) -> list[tuple[int, float]]:
    """Arrivals and P99 of each of the first `count` seconds; `times` ascend."""
    edges = np.searchsorted(times, np.arange(count + 1))
    return [(int(end - start), percentile(latency[start:end], 99)) for start, end in pairwise(edges)]
