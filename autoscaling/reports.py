"""What gateways and replicas tell of a model version, and what that makes in work (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean

from autoscaling.policy import Demand

Numbers = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class GatewayReport:
    """Of one gateway. Waiting are the requests that it has not handed to a replica."""

    at: float
    rows_per_s: float  # asked for of late, whether refused or not
    elements_per_s: float
    waiting_rows: float
    waiting_elements: float
    held: float  # requests without an answer, those at replicas included
    oldest_s: float  # since the one whose turn it is came

    def numbers(self) -> dict[str, float]:
        return _numbers(self)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a replica takes for requests when many wait."""

    base_s: float  # of a batch
    per_element_s: float
    batch_rows: float = 1.0
    fill: float = 1.0  # of a batch's elements, those that are not padding
    permits: float = 1.0  # batches at the same time

    def seconds(self, rows: float, elements: float) -> float:
        """Of one replica's time."""
        base_s = rows / max(self.batch_rows, 1.0) * self.base_s
        return (base_s + elements / max(self.fill, 0.01) * self.per_element_s) / max(self.permits, 1.0)


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """Of one replica."""

    at: float
    work_s: float  # until what it holds is done
    oldest_s: float  # since the one whose turn it is came
    base_s: float
    per_element_s: float
    batch_rows: float
    fill: float
    permits: float
    loaded_s: float  # from its process's first step to its being ready

    @property
    def cost(self) -> Cost:
        return Cost(self.base_s, self.per_element_s, self.batch_rows, self.fill, self.permits)

    def numbers(self) -> dict[str, float]:
        return _numbers(self)


def _numbers(report: GatewayReport | ReplicaReport) -> dict[str, float]:
    told = asdict(report)
    del told["at"]  # who passes it on notes the time
    return told


def cost_of(replicas: Sequence[ReplicaReport], known: Cost) -> Cost:
    """The mean of what replicas tell; what was known before, as long as none has run a batch."""
    costs = [report.cost for report in replicas if report.base_s or report.per_element_s]
    if not costs:
        return known
    return Cost(*(fmean(getattr(cost, name) for cost in costs) for name in Cost.__dataclass_fields__))


def demand_of(
    gateways: Sequence[GatewayReport], replicas: Sequence[ReplicaReport], cost: Cost
) -> Demand | None:
    """What is asked in all; None as long as no gateway has told. It is as old as the oldest report."""
    if not gateways:
        return None
    rows, elements = sum(g.waiting_rows for g in gateways), sum(g.waiting_elements for g in gateways)
    return Demand(
        at=min([report.at for report in gateways] + [report.at for report in replicas]),
        offered=cost.seconds(sum(g.rows_per_s for g in gateways), sum(g.elements_per_s for g in gateways)),
        backlog_s=cost.seconds(rows, elements) + sum(report.work_s for report in replicas),
        oldest_s=max([report.oldest_s for report in gateways] + [report.oldest_s for report in replicas]),
        held=sum(report.held for report in gateways),
    )
