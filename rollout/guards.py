"""What a new version must not do, as the user writes it: `p99<=1.2x`, `errors<=+0.5%`, `drift<=0.01`.

p50 p90 p95 p99 p99.9   latency of computed answers     <=1.2x   <=+20ms   <=250ms
errors                  share of failed requests        <=+0.5%  <=1%
drift                   share of copies whose answer differs by more than is allowed      <=0.01
top1 cosine             of copies' answers against the callers'                           >=0.99
accuracy                share of right answers, by feedback                     >=-1%     >=90%
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from headrace.errors import ConfigRejected

Relation = Literal["ratio", "difference", "absolute"]  # to the stable version's, or by itself
DEFAULT_GUARDS = ("p50<=1.2x", "p99<=1.2x", "errors<=+0.5%")

_GUARD = re.compile(r"\s*(?P<measure>[a-z]+[0-9.]*)\s*(?P<sense><=|>=)\s*(?P<bound>\S+)\s*")
_NUMBER = re.compile(r"(?P<sign>[+-]?)(?P<value>\d+(\.\d+)?|\.\d+)(?P<unit>x|%|ms|s|)")
_SHARES = {"errors": "<=", "drift": "<=", "top1": ">=", "cosine": ">=", "accuracy": ">="}
_COPIES = frozenset({"drift", "top1", "cosine"})  # known from shadowed requests alone
_FORMS = (
    "p99<=1.2x, p99<=+20ms, p99<=250ms, errors<=+0.5%, drift<=0.01, top1>=0.99, cosine>=0.98, accuracy>=-1%"
)


@dataclass(frozen=True, slots=True)
class Guard:
    """`bound` is a ratio, seconds, or a share from 0 to 1; a difference is positive where more is worse."""

    text: str
    measure: str  # "p99", "errors", ...
    relation: Relation
    bound: float

    @property
    def quantile(self) -> float | None:
        """0.99 for p99; None for what is no latency."""
        return None if self.measure in _SHARES else float(self.measure[1:]) / 100

    @property
    def needs_shadow(self) -> bool:
        return self.measure in _COPIES

    @property
    def needs_feedback(self) -> bool:
        return self.measure == "accuracy"


def parse_guard(text: str) -> Guard:
    """ConfigRejected says what is wrong and shows what a guard looks like."""
    found = _GUARD.fullmatch(text)
    number = found and _NUMBER.fullmatch(found["bound"])
    if not found or not number:
        raise ConfigRejected(f"guard {text[:60]!r} cannot be understood; guards look like: {_FORMS}")
    measure, sense, bound = found["measure"], found["sense"], float(number["value"])
    is_latency = bool(re.fullmatch(r"p\d{1,2}(\.\d{1,2})?", measure)) and float(measure[1:]) > 0
    if not is_latency and measure not in _SHARES:
        raise ConfigRejected(
            f"guard {text[:60]!r}: {measure!r} is not measured; there are p50 to p99.99, {', '.join(_SHARES)}"
        )
    wanted = "<=" if is_latency else _SHARES[measure]
    if sense != wanted:
        raise ConfigRejected(f"guard {text[:60]!r}: {measure} is bounded by {wanted}")
    if is_latency:
        return Guard(text, measure, *_latency(text, number["sign"], bound, number["unit"]))
    return Guard(text, measure, *_share(text, measure, number["sign"], bound, number["unit"]))


def _latency(text: str, sign: str, bound: float, unit: str) -> tuple[Relation, float]:
    seconds = bound / 1000 if unit == "ms" else bound
    match unit, sign:
        case "x", "" if bound >= 1:
            return "ratio", bound
        case "ms" | "s", "+":
            return "difference", seconds
        case "ms" | "s", "" if seconds > 0:
            return "absolute", seconds
    raise ConfigRejected(f"guard {text[:60]!r}: a latency is bounded by 1.2x (1x or more), +20ms or 250ms")


def _share(text: str, measure: str, sign: str, bound: float, unit: str) -> tuple[Relation, float]:
    share = bound / 100 if unit == "%" else bound
    if unit in ("%", "") and share <= 1:
        match measure, sign:
            case "errors", "+":
                return "difference", share
            case "accuracy", "-":
                return "difference", share
            case _, "" if 0 < share < 1:
                return "absolute", share
    relative = {"errors": " or, against the stable version, +0.5%", "accuracy": " or -1%"}.get(measure, "")
    raise ConfigRejected(f"guard {text[:60]!r}: {measure} is bounded by a share such as 0.01 or 1%{relative}")


def parse_guards(texts: Sequence[str], *, is_shadowed: bool, has_feedback: bool) -> list[Guard]:
    """All of them; ConfigRejected for one that could never be evaluated, or that is there twice."""
    guards = [parse_guard(text) for text in texts]
    seen: set[str] = set()
    for guard in guards:
        if guard.measure in seen:
            raise ConfigRejected(f"guard {guard.text!r}: there is one for {guard.measure} already")
        seen.add(guard.measure)
        if guard.needs_shadow and not is_shadowed:
            raise ConfigRejected(
                f"guard {guard.text!r} compares answers to copies: say --shadow, too, or leave it out"
            )
        if guard.needs_feedback and not has_feedback:
            raise ConfigRejected(
                f"guard {guard.text!r} needs true answers: set models.NAME.feedback, or leave it out"
            )
    return guards
