"""A comparison of variants, in words."""

from __future__ import annotations

from rollout.effects import FEWEST_REQUESTS, QUANTILES, Comparison, Effect, Variant
from rollout.intervals import FEWEST_WINDOWS

_NAMES = {"engine": "engine time"} | {name: name.upper() for name in QUANTILES}
_TOLD_ALONE = ("throughput", "hits")  # follow from the split, and from how long a cache has been filling


def verdict(comparison: Comparison) -> str:
    """One sentence for each variant but the baseline."""
    baseline = comparison.variants[0]
    return " ".join(
        _sentence(baseline, variant, comparison.of(variant.name)) for variant in comparison.variants[1:]
    )


def _sentence(baseline: Variant, variant: Variant, effects: list[Effect]) -> str:
    effects = [effect for effect in effects if effect.measure not in _TOLD_ALONE]
    fewest = min(baseline, variant, key=lambda row: (row.seconds >= FEWEST_WINDOWS, row.requests))
    if not effects:
        seen = f"{fewest.requests:,} requests in {fewest.seconds} seconds"
        needed = f"{FEWEST_REQUESTS} in {FEWEST_WINDOWS}"
        return f"No verdict yet on {variant.name}: {fewest.name} has {seen}, and {needed} are needed."
    requests = min(baseline.requests, variant.requests)
    clear = [_claim(effect) for effect in effects if effect.is_clear]
    others = [effect for effect in effects if not effect.is_clear]
    alike = f"as far as {requests:,} requests can tell ({'; '.join(map(_range, others))})"
    if not clear:
        return f"No verdict yet on {variant.name}: nothing differs from {baseline.name} {alike}."
    claims = f"{variant.name} {_listed(clear)} than {baseline.name}"
    if not others:
        return f"{claims}."
    names = _listed([_name(effect) for effect in others])
    return f"{claims}; {names} {'does' if len(others) == 1 else 'do'} not differ {alike}."


def _claim(effect: Effect) -> str:
    """It goes before "than BASELINE"."""
    low, high = effect.low, effect.high
    if effect.relation == "difference":
        more = "more" if low > 0 else "less"
        points = _points(min(abs(low), abs(high)), max(abs(low), abs(high)), sign="")
        return f"{'is right' if effect.measure == 'accuracy' else 'fails'} {points} {more} often"
    is_more = low > 1
    times = _times(low, high) if is_more else _times(1 / high, 1 / low if low else float("inf"))
    match effect.measure:
        case "cost":
            return f"is {times} {'dearer' if is_more else 'cheaper'}"
        case "engine":
            return f"needs {times} {'more' if is_more else 'less'} engine time"
    return f"is {times} {'slower' if is_more else 'faster'} at {_name(effect)}"


def _range(effect: Effect) -> str:
    if effect.relation == "difference":
        return f"{_name(effect)}: {_points(effect.low, effect.high, sign='+')}"
    return f"{_name(effect)}: {_times(effect.low, effect.high)}"


def _times(low: float, high: float) -> str:
    return f"{low:.3g} times or more" if high == float("inf") else f"{low:.3g} to {high:.3g} times"


def _points(low: float, high: float, sign: str) -> str:
    return f"{100 * low:{sign}.2g} to {100 * high:{sign}.2g} points"


def _name(effect: Effect) -> str:
    return _NAMES.get(effect.measure, effect.measure)


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
