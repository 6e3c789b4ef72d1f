"""What an audit advises: what is the case, what to do, by which command, and what that gains."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from rollout.facts import ModelFacts
from rollout.traffic import SECONDS_PER_MONTH

# In the order of their weight: what callers feel, what is paid for, what is only known to be slower.
Unit = Literal["requests_per_month", "engine_hours_per_month", "times_as_fast", "mib", "unknown"]
Sure = Literal["measured", "estimated", "at most", "unknown"]
Kind = Literal[
    "errors",
    "latency",
    "overloaded",
    "drift",
    "hardware",
    "cores",
    "library",
    "upgrade",
    "unoptimized",
    "due",
    "idle",
    "cache-small",
    "cache-large",
    "cache-useless",
]
_UNITS = get_args(Unit)


@dataclass(frozen=True, slots=True)
class Gain:
    """What an action is expected to bring, and where that number is from; no value where only doing it
    will tell."""

    unit: Unit
    value: float | None
    sure: Sure
    basis: str


@dataclass(frozen=True, slots=True)
class Finding:
    kind: Kind
    model: str  # "": the server as a whole
    version: str
    found: str
    action: str
    command: str
    gain: Gain


def unknown(basis: str) -> Gain:
    return Gain("unknown", None, "unknown", basis)


def faster(model: ModelFacts, ratio: float, sure: Sure, basis: str) -> Gain:
    """What a version that is so many times as fast brings: hours of engines where its traffic is known."""
    if model.lately is not None and (spent := model.lately.per_month(model.lately.engine_s)):
        basis = f"{basis}; {spent / 3600:.3g} engine-hours a month as lately"
        return Gain("engine_hours_per_month", spent / 3600 * (1 - 1 / ratio), sure, basis)
    return Gain("times_as_fast", ratio, sure, basis)


def replica_hours(count: float) -> float:
    """Of so many replicas in a month."""
    return count * SECONDS_PER_MONTH / 3600


def ranked(findings: Iterable[Finding]) -> list[Finding]:
    """The largest gain first: requests that go better, then hours, then the rest; a bound counts less than
    what is expected."""

    def rank(finding: Finding) -> tuple[int, bool, float, str, str]:
        gain = finding.gain
        value = -math.inf if gain.value is None else gain.value
        return _UNITS.index(gain.unit), gain.sure == "at most", -value, finding.model, finding.kind

    return sorted(findings, key=rank)


def in_words(gain: Gain) -> str:
    """ "12 engine-hours a month (estimated)"."""
    if gain.value is None:
        return "unknown"
    number = f"{gain.value:,.0f}" if gain.value >= 100 else f"{gain.value:.3g}"
    told = {
        "requests_per_month": f"{number} requests a month go better",
        "engine_hours_per_month": f"{number} engine-hours a month",
        "times_as_fast": f"{number} times as fast",
        "mib": f"{number} MiB",
    }[gain.unit]
    return f"at most {told}" if gain.sure == "at most" else f"{told} ({gain.sure})"
