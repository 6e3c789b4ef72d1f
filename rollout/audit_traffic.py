"""What is wrong with the answers: errors, latency, too many engines or too few, caches of a wrong size."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator

from rollout.facts import Facts, Memory, ModelFacts, Recorded
from rollout.findings import Finding, Gain, faster, replica_hours, unknown
from rollout.traffic import CALLERS_MISTAKES, Traffic

ERROR_SHARE = 0.001
IDLE, FULL = 0.3, 0.9  # shares of the time in which engines compute
USUAL = 0.75  # of it, when there are as many as there should be
SLOWER, DRIFT_ACCURACY = 1.2, 0.01  # than the baseline: times as long, and share of answers
_FEW = 100  # requests, from which on shares mean something
_LOOKUPS = 1000
_MANY_LOOKUPS = 10_000
_NEARLY_FULL, _NEARLY_EMPTY = 0.95, 0.25
_USELESS = 0.01  # of lookups are hits
_MIB = 2**20


def traffic_findings(facts: Facts, model: ModelFacts) -> Iterator[Finding]:
    yield from _errors(facts, model)
    yield from _latency(facts, model)
    yield from _engines(facts, model)
    yield from _drift(facts, model)
    yield from _useless_cache(facts, model)


def cache_findings(facts: Facts) -> Iterator[Finding]:
    """About the memory that models share, and about the shared cache."""
    if facts.memories:
        fullest = max(facts.memories, key=lambda memory: memory.fill)
        if fullest.fill >= _NEARLY_FULL:
            yield _small(facts, "the memory of a gateway", "cache.memory_mib", fullest)
        elif fullest.fill < _NEARLY_EMPTY and _lookups(facts) >= _MANY_LOOKUPS:
            yield _large(facts, fullest)
    if facts.shared is not None and facts.shared.fill >= _NEARLY_FULL:
        yield _small(facts, "the shared cache", "cache.redis_mib", facts.shared)


def _serve(facts: Facts, change: str) -> str:
    """The command that puts a change of the configuration in force."""
    return f"headrace serve {shlex.quote(facts.config)}  # with {change}"


def _errors(facts: Facts, model: ModelFacts) -> Iterator[Finding]:
    seen = model.so_far
    if seen is None or (share := seen.error_share) is None:
        return
    if share <= ERROR_SHARE or seen.answered + seen.failed < _FEW:
        return
    kinds = {kind: count for kind, count in seen.errors.items() if kind not in CALLERS_MISTAKES and count}
    worst = max(kinds, key=lambda kind: kinds[kind])
    told = ", ".join(
        f"{count:,.0f} {kind}" for kind, count in sorted(kinds.items(), key=lambda pair: -pair[1])
    )
    action, command = "look at what its engine says, or go back to the version before", _rollback(model)
    if worst in ("overloaded", "deadline"):
        action, command = _more(facts, model)
    elif worst == "unavailable":
        action, command = "look at which replicas do not come up", "headrace status"
    yield Finding(
        "errors",
        model.name,
        model.version,
        f"{share:.2%} of its requests failed ({told}); the limit is {ERROR_SHARE:.1%}",
        action,
        command,
        _requests(model.lately, share, "errors since the start of the processes, at the rate of lately"),
    )


def _rollback(model: ModelFacts) -> str:
    return shlex.join(["headrace", "rollout", "rollback", model.name])


def _requests(lately: Traffic | None, share: float, basis: str) -> Gain:
    monthly = lately.per_month(lately.answered + lately.failed) if lately else None
    if not monthly:
        return unknown("nothing was asked while the audit looked")
    return Gain("requests_per_month", monthly * share, "estimated", basis)


def _latency(facts: Facts, model: ModelFacts) -> Iterator[Finding]:
    seen, scaling = model.lately, model.config.autoscaling
    if seen is None or scaling is None or seen.answered < _FEW:
        return
    found, objective_s = seen.latency.quantile(0.99), scaling.objective_ms / 1000
    if found is None or found.low_s < objective_s:
        return  # its bin begins below the objective: it may be well
    monthly = seen.per_month(seen.latency.least_above(objective_s)) or 0.0
    action, command = _more(facts, model)
    yield Finding(
        "latency",
        model.name,
        model.version,
        f"P99 is {_span_ms(found.low_s, found.high_s)}; the objective is {scaling.objective_ms:g} ms",
        action,
        command,
        Gain("requests_per_month", monthly, "estimated", "those that took longer lately"),
    )


def _span_ms(low_s: float, high_s: float) -> str:
    high = "more" if math.isinf(high_s) else f"{1000 * high_s:g}"
    return f"{1000 * low_s:g} to {high} ms"


def _engines(facts: Facts, model: ModelFacts) -> Iterator[Finding]:
    busy, processes, seen = model.busy, model.processes, model.lately
    if busy is None or processes is None or seen is None:
        return
    wanted = max(1, math.ceil(processes * busy / USUAL))
    if busy > FULL:
        yield _overloaded(facts, model, busy, seen)
    elif busy < IDLE and model.config.placement == "replicas":
        yield from _idle(facts, model, busy, processes, wanted)


def _overloaded(facts: Facts, model: ModelFacts, busy: float, seen: Traffic) -> Finding:
    refused = sum(count for kind, count in seen.errors.items() if kind in ("overloaded", "deadline"))
    gain = unknown("nothing was refused yet; the next burst waits")
    if monthly := seen.per_month(refused):
        gain = Gain("requests_per_month", monthly, "estimated", "requests that were refused or late lately")
    action, command = _more(facts, model)
    return Finding(
        "overloaded",
        model.name,
        model.version,
        f"its engines computed {busy:.0%} of the time; more than {FULL:.0%} leaves nothing for bursts",
        action,
        command,
        gain,
    )


def _more(facts: Facts, model: ModelFacts) -> tuple[str, str]:
    """More engines: as many as make them busy for the usual share of the time, one more at least."""
    processes = model.processes or 1
    wanted = max(processes + 1, math.ceil(processes * (model.busy or 0.0) / USUAL))
    if model.config.placement == "inline":
        return "run more gateways, or give the model replicas", _serve(facts, f"gateways: {wanted}")
    key = "replicas" if model.config.autoscaling is None else "autoscaling.max_replicas"
    wanted = max(wanted, model.config.max_replicas + 1)
    return "run more replicas", _serve(facts, f"models.{model.name}.{key}: {wanted}")


def _idle(facts: Facts, model: ModelFacts, busy: float, processes: int, wanted: int) -> Iterator[Finding]:
    scaling = model.config.autoscaling
    key = "replicas" if scaling is None else "autoscaling.min_replicas"
    fewest = model.config.replicas if scaling is None else scaling.min_replicas
    if wanted >= min(processes, fewest):
        return  # where more run than must, autoscaling ends them by itself
    seconds = model.lately.seconds if model.lately else None
    yield Finding(
        "idle",
        model.name,
        model.version,
        f"its {processes} replicas computed {busy:.0%} of the time; {wanted} would compute "
        f"{busy * processes / wanted:.0%}",
        "run fewer replicas",
        _serve(facts, f"models.{model.name}.{key}: {wanted}"),
        Gain(
            "engine_hours_per_month",
            replica_hours(min(processes, fewest) - wanted),
            "estimated",
            f"if what came in {seconds:g} s is what usually comes",
        ),
    )


def _drift(facts: Facts, model: ModelFacts) -> Iterator[Finding]:
    """Worse than what was recorded when the version was known to be good."""
    if model.baseline is None:
        return
    yield from _slower(model, model.baseline)
    accuracy, judged = model.baseline.accuracy, model.judged
    if accuracy is None or judged is None or judged.answers < _FEW:
        return
    lost = accuracy - judged.accuracy
    if lost > DRIFT_ACCURACY:
        yield Finding(
            "drift",
            model.name,
            model.version,
            f"{judged.accuracy:.2%} of its answers were right; it was {accuracy:.2%}",
            "optimize or train it again, on recent inputs",
            model.reoptimize(facts.repository),
            _requests(model.lately, lost, f"of {judged.answers:,} answers whose truth was told"),
        )


def _slower(model: ModelFacts, baseline: Recorded) -> Iterator[Finding]:
    """Batches against the slowest shape that was recorded, so that another mix of shapes is no drift."""
    seen = model.lately
    if seen is None or seen.batches < _FEW:
        return
    took_s, known_s = seen.engine_s / seen.batches, baseline.batch_s(seen.rows / seen.batches)
    if known_s is None or took_s <= SLOWER * known_s:
        return
    basis = "if batches took as long as the slowest shape of the baseline"
    yield Finding(
        "drift",
        model.name,
        model.version,
        f"its batches took {1000 * took_s:.3g} ms on average; those of its slowest shape took "
        f"{1000 * known_s:.3g} ms when its baseline was recorded",
        "measure whether the machine or the version became slower",
        shlex.join(["headrace", "baseline", "check", f"{model.name}/{model.version}"]),
        faster(model, took_s / known_s, "estimated", basis),
    )


def _useless_cache(facts: Facts, model: ModelFacts) -> Iterator[Finding]:
    seen = model.so_far
    if not model.config.cache or seen is None or seen.lookups < _LOOKUPS:
        return
    rate = seen.hit_rate or 0.0
    if rate >= _USELESS:
        return
    own = model.config.cache_memory_mib
    gain = unknown("its part of the memory that models share is not told apart")
    if own:
        gain = Gain("mib", own, "measured", "its own memory in each gateway")
    yield Finding(
        "cache-useless",
        model.name,
        model.version,
        f"{rate:.2%} of {seen.lookups:,.0f} lookups were hits",
        "remember nothing for it, unless headrace cache simulate says that more memory helps",
        _serve(facts, f"models.{model.name}.cache: false"),
        gain,
    )


def _lookups(facts: Facts) -> float:
    return sum(model.so_far.lookups for model in facts.models if model.so_far is not None)


def _small(facts: Facts, what: str, key: str, memory: Memory) -> Finding:
    """How much more would be hits, a replay tells; no more than all that is computed now."""
    computed_s = sum(
        model.lately.per_month(model.lately.engine_s) or 0.0
        for model in facts.models
        if model.lately is not None and model.config.cache
    )
    gain = unknown("a replay of recorded requests tells it")
    if computed_s:
        basis = "all that is computed now for models with a cache; a replay of recorded requests tells more"
        gain = Gain("engine_hours_per_month", computed_s / 3600, "at most", basis)
    return Finding(
        "cache-small",
        "",
        "",
        f"{what} is full: {memory.answers:,} answers in {memory.num_bytes / _MIB:.0f} of "
        f"{memory.max_bytes / _MIB:.0f} MiB",
        f"find out what more would bring, and raise {key}",
        "headrace cache record --out out/requests.csv --seconds 600 && "
        "headrace cache simulate out/requests.csv",
        gain,
    )


def _large(facts: Facts, fullest: Memory) -> Finding:
    wanted = max(1, math.ceil(2 * fullest.num_bytes / _MIB))
    saved = sum(memory.max_bytes / _MIB - wanted for memory in facts.memories)
    return Finding(
        "cache-large",
        "",
        "",
        f"no gateway's memory for answers is fuller than {fullest.fill:.0%}, after {_lookups(facts):,.0f} "
        "lookups",
        "set aside twice of what is used",
        _serve(facts, f"cache.memory_mib: {wanted}"),
        Gain("mib", saved, "measured", "of all gateways, as they are filled now"),
    )
