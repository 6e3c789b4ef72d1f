"""Evidence -> whether a rollout goes on (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rollout.evidence import Evidence
from rollout.plan import Plan

Phase = Literal["shadow", "canary", "soak"]
Action = Literal["hold", "advance", "roll_back"]


@dataclass(frozen=True, slots=True)
class Reading:
    """What is known about one guard."""

    guard: str
    value: float | None  # of the candidate, in the guard's own unit and relation; None: nothing seen yet
    state: Literal["ok", "unsure", "violated", "waiting"]  # unsure: past its bound, which may be chance
    evidence: float = 1.0  # the e-value against "the guard holds": 1 says nothing
    words: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    action: Action
    why: str
    readings: tuple[Reading, ...] = ()


def decide(plan: Plan, phase: Phase, evidence: Evidence) -> Decision:
    """Roll back when a guard is violated beyond chance; go on when enough was seen and every guard holds."""
    raise NotImplementedError
