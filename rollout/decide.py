"""Evidence -> whether a rollout goes on (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rollout.blocks import condense
from rollout.evidence import Evidence
from rollout.guards import Guard
from rollout.judge_latency import judge_latency
from rollout.judge_share import judge_share
from rollout.judged import Judged
from rollout.plan import FALSE_ALARMS, Plan
from rollout.words import describe

Phase = Literal["shadow", "canary", "soak"]
Action = Literal["hold", "advance", "roll_back"]
State = Literal["ok", "unsure", "violated", "waiting"]


@dataclass(frozen=True, slots=True)
class Reading:
    """What is known about one guard."""

    guard: str
    value: float | None  # of the candidate, in the guard's own unit and relation; None: nothing seen yet
    state: State  # unsure: past its bound, which may be chance
    evidence: float = 1.0  # the e-value against "the guard holds": 1 says nothing
    words: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    action: Action
    why: str
    readings: tuple[Reading, ...] = ()


def decide(plan: Plan, phase: Phase, evidence: Evidence) -> Decision:
    """Roll back when a guard is violated beyond chance; go on when enough was seen and every guard holds.

    Of versions that are as good, at most FALSE_ALARMS are rolled back: each guard of each step, shadow and
    soak included, has an equal part of it. `evidence` is this step's. What a guard waits for blocks the step,
    with these exceptions: latencies in shadow; comparisons of copies, and true answers, in canary steps; and
    in the soak everything but true answers, since all else was seen in the steps before. So a version
    with a guard for accuracy is not promoted before thirty answers of the soak were judged.
    """
    evidence = replace(evidence, windows=condense(evidence.windows))
    guards = plan.parsed_guards()
    needed = needed_evidence(plan, phase)
    readings = tuple(_read(guard, phase, evidence, needed) for guard in guards)
    violated = [reading.words for reading in readings if reading.state == "violated"]
    if violated:
        return Decision("roll_back", "; ".join(violated), readings)
    waits = [
        *_unfinished(plan, phase, evidence),
        *(
            reading.words
            for guard, reading in zip(guards, readings, strict=True)
            if reading.state == "unsure" or (reading.state == "waiting" and _blocks(guard, phase))
        ),
    ]
    if waits:
        return Decision("hold", "; ".join(waits), readings)
    return Decision(
        "advance", f"every guard holds after {_count(phase, evidence):,} {_noun(phase)}", readings
    )


def needed_evidence(plan: Plan, phase: Phase) -> float:
    """The e-value that violates a guard."""
    num_steps = len(plan.steps) + (plan.shadow > 0) + (plan.soak_s > 0)
    num_guards = sum(_is_read(guard, phase) for guard in plan.parsed_guards())
    return num_steps * max(1, num_guards) / FALSE_ALARMS


def _is_read(guard: Guard, phase: Phase) -> bool:
    """In shadow no caller is answered by the candidate: there are copies, and nobody judges their answers."""
    return phase != "shadow" or guard.needs_shadow or guard.measure == "errors"


def _blocks(guard: Guard, phase: Phase) -> bool:
    match phase:
        case "shadow":
            return _is_read(guard, phase)
        case "canary":
            return not (guard.needs_shadow or guard.needs_feedback)
        case "soak":
            return guard.needs_feedback


def _read(guard: Guard, phase: Phase, evidence: Evidence, needed: float) -> Reading:
    if not _is_read(guard, phase):
        return Reading(
            guard.text, None, "waiting", words=f"{guard.measure} is not known before the first step"
        )
    if guard.quantile is not None:
        judged = judge_latency(guard, evidence)
    else:
        judged = judge_share(guard, evidence, is_shadow=phase == "shadow")
    state = _state(judged, needed)
    found = judged.trial.peak if state == "violated" else judged.trial.last
    return Reading(
        guard.text, _value(guard, judged), state, found, describe(guard, judged, state, found, needed)
    )


def _state(judged: Judged, needed: float) -> State:
    if judged.trial.peak >= needed:
        return "violated"
    if judged.missing:
        return "waiting"
    return "ok" if judged.is_within else "unsure"


def _value(guard: Guard, judged: Judged) -> float | None:
    if judged.candidate is None or judged.reference is None:
        return judged.candidate
    if guard.relation == "ratio":
        return judged.candidate / judged.reference
    return judged.candidate - judged.reference


def _unfinished(plan: Plan, phase: Phase, evidence: Evidence) -> Sequence[str]:
    """What the step itself still needs."""
    lasts_s = plan.soak_s if phase == "soak" else plan.interval_s
    waits = []
    if evidence.elapsed_s < lasts_s:
        waits.append(f"{evidence.elapsed_s:.0f} of {lasts_s:.0f} s have passed")
    count = _count(phase, evidence)
    if phase != "soak" and count < plan.min_sample:
        waits.append(f"{count:,} of {plan.min_sample:,} {_noun(phase)} were seen")
    return waits


def _count(phase: Phase, evidence: Evidence) -> int:
    if phase == "shadow":
        return sum(window.candidate.compared for window in evidence.windows)
    return sum(window.candidate.requests for window in evidence.windows)


def _noun(phase: Phase) -> str:
    return "compared copies" if phase == "shadow" else "requests"
