"""What was found about a guard, in words."""

from __future__ import annotations

from rollout.guards import Guard
from rollout.judged import Judged


def describe(guard: Guard, judged: Judged, state: str, found: float, needed: float) -> str:
    """A sentence without its full stop: "p99 is 1.31 times the stable version's (131 ms, 100 ms); ..."."""
    if judged.candidate is None:
        return f"{guard.measure}: {judged.missing}"
    measured = _measured(guard, judged.candidate, judged.reference)
    match state:
        case "violated":
            return f"{measured}, and {guard.text} is violated beyond chance ({_evidence(found, needed)})"
        case "waiting":
            return f"{measured}, but only {judged.missing}"
        case "unsure":
            return f"{measured}, past {guard.text}; that may still be chance ({_evidence(found, needed)})"
    return measured


def _evidence(found: float, needed: float) -> str:
    amount = f"{found:,.0f}" if 10 <= found < 1e6 else f"{found:.2g}"
    return f"evidence {amount}, {needed:,.0f} needed"


def _measured(guard: Guard, candidate: float, reference: float | None) -> str:
    show = _seconds if guard.quantile is not None else _cosine if guard.measure == "cosine" else _share
    if reference is None:
        return f"{guard.measure} is {show(candidate)}"
    if guard.relation == "ratio":
        found = f"{candidate / reference:.2f} times the stable version's"
        return f"{guard.measure} is {found} ({show(candidate)}, {show(reference)})"
    return f"{guard.measure} is {show(candidate)}, the stable version's {show(reference)}"


def _seconds(value: float) -> str:
    return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"


def _share(value: float) -> str:
    return f"{100 * value:.4g}%"


def _cosine(value: float) -> str:
    return f"{value:.4f}"
