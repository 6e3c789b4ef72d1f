"""One question to a model and its answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from headrace.tensors import TensorMap
from headrace.trace import TraceContext, Traced

Scalar = str | int | float | bool
# An answer that is remembered does ("use"); it is computed and not remembered ("bypass"), or computed and
# remembered instead of the older one ("refresh"); or it is not computed ("only").
CacheMode = Literal["use", "bypass", "refresh", "only"]
LOWEST_PRIORITY = 2**31 - 1
LONGEST_ID = 256  # characters of a request's id by which its answer can be found again
# Where an answer came from: computed now, an in-process hit, a shared hit, or another
# request's computation of the same key that was already under way.
Tier = Literal["off", "miss", "memory", "redis", "flight"]
# Which of several versions answered, where that is not simply the stable one: one that is being tried, or the
# stable one, after that had failed, or a cheaper one, where there would have been a refusal.
Variant = Literal["", "candidate", "fallback", "cheaper"]


Way = Literal["http", "grpc", "handle"]


@dataclass(frozen=True, slots=True)
class Asked:
    """How a request came, for traces and log lines."""

    way: Way
    request_id: str  # `x-request-id`: bounded, printable
    began: float  # by this process's monotonic clock
    traced: Traced | None = None  # None: traces are off
    parent: TraceContext | None = None  # the caller's span

    @property
    def context(self) -> TraceContext | None:
        """Its own span."""
        return None if self.traced is None else self.traced.context


@dataclass(frozen=True, slots=True)
class InferRequest:
    """What a caller asks: a model, optionally one version, and its input tensors."""

    model: str
    inputs: TensorMap
    version: str | None = None  # None: the version the server has chosen
    outputs: tuple[str, ...] = ()  # empty: every output
    id: str = ""
    parameters: Mapping[str, Scalar] = field(
        default_factory=dict
    )  # part of the cache's key, kept apart by type
    timeout_s: float | None = None
    cache: CacheMode = "use"
    tenant: str = ""
    priority: int = 0  # 1 goes first, larger numbers later; 0 is the default level
    caller: str = ""  # who asks: during a rollout or a test the same caller gets the same version
    asked: Asked | None = None  # None: neither traces nor log lines are on

    @property
    def rows(self) -> int:
        """Of its first input."""
        first = next(iter(self.inputs.values()), None)
        if first is None:
            return 0
        return 1 if first.ndim == 0 else len(first)

    @property
    def traced(self) -> Traced | None:
        return None if self.asked is None else self.asked.traced


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time of one request went, and the batch it ran in."""

    queued_s: float = 0.0  # in the engine's process
    ran_s: float = 0.0
    batch_rows: int = 0
    tier: Tier = "off"
    age_s: float = 0.0  # since it was computed, when it comes from a cache
    saved_s: float = 0.0  # of computation, when it comes from a cache
    steps: tuple[tuple[str, Tier], ...] = ()  # of a pipeline: where each step's answer came from
    padded_s: float = 0.0  # of `ran_s`: stacking, padding and cutting
    held_s: float = 0.0  # in the gateway, until there was a replica for it
    hop_s: float = 0.0  # on the way to that replica and back
    batches: tuple[str, ...] = ()  # the spans of those it ran in, as `traceparent`, where traces are on

    def from_tier(self, tier: Tier) -> Timings:
        return self if tier == self.tier else replace(self, tier=tier)


@dataclass(frozen=True, slots=True)
class Ran:
    """What a backend gives back: output tensors and where the time went."""

    outputs: TensorMap
    timings: Timings = Timings()


@dataclass(frozen=True, slots=True)
class InferResponse:
    """What a caller gets: the output tensors, and which version made them."""

    model: str
    version: str
    outputs: TensorMap
    id: str = ""
    timings: Timings = Timings()
    variant: Variant = ""


@dataclass(frozen=True, slots=True)
class Truth:
    """What would have been the right answer to a request, or whether the given one was."""

    id: str  # of the request
    label: object = None  # for each row; None: `right` says it
    right: float | None = None  # 0 to 1


@dataclass(frozen=True, slots=True)
class Verdict:
    """Which version had answered, and how right that was, 0 to 1."""

    version: str
    right: float
