"""Facts -> what to do about them, the largest gain first (pure)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from rollout.audit_traffic import cache_findings, traffic_findings
from rollout.audit_versions import age_days, version_findings
from rollout.facts import Facts, ModelFacts
from rollout.findings import Finding, ranked
from rollout.traffic import Quantile

FORMAT = 1  # of the JSON: it grows when a key goes or changes its meaning


@dataclass(frozen=True, slots=True)
class Audit:
    facts: Facts
    findings: tuple[Finding, ...]  # the largest gain first
    unknown: tuple[str, ...]  # what could not be judged, and why

    @property
    def exit_code(self) -> int:
        """0: nothing to do; 1: there are findings."""
        return 1 if self.findings else 0


def audit(facts: Facts) -> Audit:
    """Everything that the rules find; what a rule lacks to judge by is told, never guessed."""
    found = [*cache_findings(facts)]
    unknown = list(facts.unknown)
    for model in facts.models:
        found += [*version_findings(facts, model), *traffic_findings(facts, model)]
        unknown += _unknown(model, facts.at)
    return Audit(facts, tuple(ranked(found)), tuple(unknown))


def _unknown(model: ModelFacts, at: datetime) -> list[str]:
    told = []
    where = f"{model.name}/{model.version}"
    if model.lately is not None and not model.lately.answered:
        told.append(f"{where}: nothing was answered while the audit looked, so latencies are not known")
    if model.lately is not None and model.processes is None:
        told.append(f"{where}: how many engines it has is not known, so their use is not either")
    if model.baseline is None:
        told.append(f"{where}: no baseline was recorded (headrace baseline record {where})")
    if model.config.reoptimize_days and age_days(model.manifest, at) is None:
        told.append(f"{where}: its manifest tells no date, so whether it is due is not known")
    return told


def as_json(audit: Audit) -> dict[str, Any]:
    """Plain data with stable keys; null is what is not known."""
    facts = audit.facts
    return {
        "format": FORMAT,
        "at": facts.at.isoformat(timespec="seconds"),
        "machine": asdict(facts.here),
        "findings": [asdict(finding) for finding in audit.findings],
        "models": [_told(facts, model) for model in facts.models],
        "memories": [asdict(memory) for memory in facts.memories],
        "shared": asdict(facts.shared) if facts.shared else None,
        "upgrades": [asdict(upgrade) for upgrade in facts.upgrades],
        "unknown": list(audit.unknown),
    }


def _told(facts: Facts, model: ModelFacts) -> dict[str, Any]:
    manifest, lately, so_far = model.manifest, model.lately, model.so_far
    latency = {
        name: _quantile(lately.latency.quantile(share)) if lately else None
        for name, share in (("p50_s", 0.5), ("p95_s", 0.95), ("p99_s", 0.99))
    }
    return {
        "model": model.name,
        "version": model.version,
        "engine": manifest.engine,
        "engine_version": manifest.engine_version,
        "precision": manifest.precision,
        "created": manifest.created,
        "age_days": age_days(manifest, facts.at),
        "processes": model.processes,
        "busy": model.busy,
        "seconds": lately.seconds if lately else None,
        "per_s": lately.per_s if lately else None,
        **latency,
        "hit_rate": so_far.hit_rate if so_far else None,
        "saved_s": so_far.saved_s if so_far else None,
        "error_share": so_far.error_share if so_far else None,
        "accuracy": model.judged.accuracy if model.judged and model.judged.answers else None,
        "baseline": asdict(model.baseline) if model.baseline else None,
    }


def _quantile(found: Quantile | None) -> dict[str, float | None] | None:
    if found is None:
        return None
    high = found.high_s
    return {"value": found.value_s, "low": found.low_s, "high": None if high == float("inf") else high}
