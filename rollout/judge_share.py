"""Whether a candidate's share of errors, differing copies or wrong answers keeps within a guard (pure)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from headrace.tensors import Array
from rollout.blocks import filled
from rollout.evidence import Evidence, Slot
from rollout.guards import Guard
from rollout.judged import Judged, fewest_in_window, suffering, wilson_upper
from rollout.sequential import trial
from rollout.tallies import numbers

_FEWEST = 30  # requests of the stable version that its share is known from; true answers of either
_REMEMBERED = 1000  # requests from before the rollout: what happens in the step itself soon counts for more
_BURST = 2  # bad ones in a window that has hardly more than they: errors come with others, but few do
_TIMES = 10.0  # what is allowed, in a window: an outage of a few seconds that nothing else shows is held
_BAD_ONES = 5  # that a version at the bound would have shown: with fewer, three times as many may pass

_Count = Callable[[Slot], float]


@dataclass(frozen=True, slots=True)
class _Kind:
    noun: str
    bad: _Count
    seen: _Count
    stable_bad: _Count
    stable_seen: _Count
    is_good: bool = False  # the guard is about the share of those that are not bad


def _none(slot: Slot) -> float:
    return 0.0


def _requests(slot: Slot) -> float:
    return slot.requests


def _errors(slot: Slot) -> float:
    return slot.errors


def _compared(slot: Slot) -> float:
    return slot.compared


def _judged(slot: Slot) -> float:
    return slot.judged


def _wrong(slot: Slot) -> float:
    return slot.judged - slot.right


_COPY_ERRORS = _Kind("copies", lambda slot: slot.copy_errors, lambda slot: slot.copies, _errors, _requests)
_KINDS = {
    "errors": _Kind("requests", _errors, _requests, _errors, _requests),
    "drift": _Kind("compared copies", lambda slot: slot.differing, _compared, _none, _none),
    "top1": _Kind("compared copies", lambda slot: slot.flipped, _compared, _none, _none, is_good=True),
    "cosine": _Kind("compared copies", lambda slot: slot.distance, _compared, _none, _none, is_good=True),
    "accuracy": _Kind("true answers", _wrong, _judged, _wrong, _judged, is_good=True),
}


def judge_share(guard: Guard, evidence: Evidence, *, is_shadow: bool) -> Judged:
    """The candidate's share of what is bad against the bound. In shadow errors are those of copies.

    With a relative guard a window is allowed the bound and what the stable version may have, by this step
    and before it. Where a window goes badly for the stable version too, it is allowed that much more, even if
    the bound is absolute: what befalls both is no version's fault.
    """
    kind = _COPY_ERRORS if is_shadow and guard.measure == "errors" else _KINDS[guard.measure]
    candidates = [window.candidate for window in evidence.windows]
    stables = [window.stable for window in evidence.windows]
    seen, bad = numbers(candidates, kind.seen), numbers(candidates, kind.bad)
    stable_seen, stable_bad = numbers(stables, kind.stable_seen), numbers(stables, kind.stable_bad)
    count = float(seen.sum())
    if not count:
        return Judged(missing=f"no {kind.noun} yet")
    share = float(bad.sum()) / count
    reference = None
    usual = 0.0
    if guard.relation == "difference":
        reference, weight = _stable(kind, evidence.before, stable_seen, stable_bad)
        if weight < _FEWEST:
            return Judged(missing=f"fewer than {_FEWEST} {kind.noun} of the stable version are known")
        usual = wilson_upper(reference, weight)
    bound = 1 - guard.bound if kind.is_good and guard.relation == "absolute" else guard.bound
    seen, bad, stable_seen, stable_bad = filled(fewest_in_window(bound), seen, bad, stable_seen, stable_bad)
    allowed = bound + suffering(stable_bad, stable_seen, usual)
    if guard.relation == "absolute":
        allowed = suffering(stable_bad, stable_seen, bound)
    fewest = _fewest(guard, bound)
    return Judged(
        candidate=1 - share if kind.is_good else share,
        reference=1 - reference if reference is not None and kind.is_good else reference,
        seen=count,
        is_within=share <= bound + (reference or 0.0),
        missing="" if count >= fewest else f"{count:.0f} of {fewest} {kind.noun} are there",
        trial=trial(bad, seen, np.minimum(allowed, 1.0), _BURST, _TIMES),
    )


def _stable(kind: _Kind, before: Sequence[Slot], seen: Array, bad: Array) -> tuple[float, float]:
    """The stable version's share of what is bad, and of how many requests it is known."""
    earlier = float(numbers(before, kind.stable_seen).sum())
    weight = min(earlier, _REMEMBERED)
    bad_before = float(numbers(before, kind.stable_bad).sum()) / earlier * weight if earlier else 0.0
    total = weight + float(seen.sum())
    return (bad_before + float(bad.sum())) / total if total else math.nan, total


def _fewest(guard: Guard, bound: float) -> int:
    if guard.needs_feedback:
        return _FEWEST
    if guard.measure in ("drift", "top1"):
        return math.ceil(_BAD_ONES / bound - 1e-6)
    return 1
