"""A request that is over, as traces and logs tell of it: names, numbers and times, never a tensor."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.requests import Way
from headrace.trace import TraceContext


@dataclass(frozen=True, slots=True)
class Finished:
    """Times are in seconds; `stages` are in the order in which a request goes through them."""

    model: str
    version: str
    way: Way
    started: float  # Unix time
    took_s: float
    stages: tuple[tuple[str, float], ...]  # none of a request that failed
    hop_s: float = 0.0  # of the stage "wire": to a replica and back
    status: int = 200  # HTTP's, by whichever way it came
    error: str = ""  # its kind
    request_id: str = ""
    variant: str = ""
    tier: str = "off"
    rows: int = 0
    batch_rows: int = 0
    bytes_in: int = 0  # of tensors
    bytes_out: int = 0
    context: TraceContext | None = None  # None: traces are off
    parent: TraceContext | None = None  # the caller's
    batches: tuple[str, ...] = ()  # the spans of those it ran in, as `traceparent` has them
