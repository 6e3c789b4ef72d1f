"""Which requests are traced: some from their start, some once it is known how they went (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from headrace.config import TracingConfig
from headrace.trace import TraceContext

SAMPLER, ARGUMENT = "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"
SAMPLERS = (
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
)
_WHOLE = 1 << 64


@dataclass(frozen=True, slots=True)
class Rules:
    """The rate, by the trace's id, so that everybody who sees it decides alike; and what is kept besides."""

    rate: float
    follows_parent: bool = True  # the caller's decision, where there is one, is ours
    slower_than_s: float | None = None

    def at_start(self, trace_id: int, parent: TraceContext | None) -> bool:
        if parent is not None and self.follows_parent:
            return parent.is_sampled
        return trace_id % _WHOLE < round(self.rate * _WHOLE)

    def is_slow(self, took_s: float) -> bool:
        return self.slower_than_s is not None and took_s >= self.slower_than_s

    def afterwards(self, took_s: float, status: int) -> bool:
        """Slow ones, and those that failed by no fault of the caller; a refusal under pressure (429) is
        neither."""
        return status >= 500 or self.is_slow(took_s)


def rules_of(config: TracingConfig, environment: Mapping[str, str]) -> tuple[Rules, str]:
    """As OTEL_TRACES_SAMPLER says, else as the configuration; and what of the former could not be followed,
    which is then as if it were not there."""
    slower_than_s = None if config.slower_than_ms is None else config.slower_than_ms / 1000
    ours = Rules(config.rate, True, slower_than_s)
    name = environment.get(SAMPLER, "").strip().lower()
    if not name:
        return ours, ""
    if name not in SAMPLERS:
        return ours, f"{SAMPLER} is {name!r}, which is none of {', '.join(SAMPLERS)}: tracing.rate counts"
    kind = name.removeprefix("parentbased_")
    rate, problem = {"always_on": 1.0, "always_off": 0.0}.get(kind), ""
    if rate is None:
        rate, problem = _ratio(environment.get(ARGUMENT, "").strip())
    return Rules(rate, name.startswith("parentbased_"), slower_than_s), problem


def _ratio(text: str) -> tuple[float, str]:
    try:
        rate = float(text or 1)
    except ValueError:
        rate = -1.0
    if 0 <= rate <= 1:
        return rate, ""
    return 1.0, f"{ARGUMENT} is {text!r}, which is no number from 0 to 1: it counts as 1"


class Allowance:
    """So many a second, and no more at once: under pressure all are slow, and tracing all would add to it."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._left = self._most = max(per_s, 1.0)
        self._at: float | None = None

    def take(self, now: float) -> bool:
        """Whether there is one left; `now` is in seconds of any clock that never goes back."""
        if self._at is not None:
            self._left = min(self._most, self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
