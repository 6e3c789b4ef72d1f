"""What is wrong with the versions that answer: made for other machines or libraries, never optimized, due."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime
from statistics import median

from engines.manifest import Manifest
from rollout.facts import Facts, ModelFacts, Upgrade
from rollout.findings import Finding, Kind, faster, unknown

_CLEARLY = 1.05  # times as fast: less is not worth a change
_PLAIN = frozenset({"fp32", ""})


def version_findings(facts: Facts, model: ModelFacts) -> Iterator[Finding]:
    yield from _hardware(facts, model)
    yield from _cores(facts, model)
    yield from _library(facts, model)
    unoptimized = list(_unoptimized(facts, model))
    yield from unoptimized
    if not unoptimized:  # which says the same with more reason
        yield from _due(facts, model)
    for upgrade in facts.upgrades:
        if upgrade.model == model.name:
            yield from _upgrade(model, upgrade)


def numbers(version: str) -> tuple[int, ...]:
    """What is compared of a library's version: (1, 32, 0) of "1.32.0"; what follows is left out."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def is_older(version: str, than: str) -> bool:
    """False, too, where either is not known."""
    one, other = numbers(version), numbers(than)
    length = max(len(one), len(other))
    return bool(one and other) and one + (0,) * (length - len(one)) < other + (0,) * (length - len(other))


def _measure_again(facts: Facts, model: ModelFacts) -> tuple[str, str]:
    """What to do, and the command: anew by its recipe where there is one, else tuned as it is."""
    if model.is_by_recipe:
        return "optimize it again on this machine", model.reoptimize(facts.repository)
    words = ["headrace", "tune", f"{model.name}/{model.version}", "--config", facts.config]
    return "measure on this machine how it runs fastest", shlex.join(words)


def _finding(
    facts: Facts, model: ModelFacts, kind: Kind, found: str, basis: str, again: tuple[str, str] | None = None
) -> Finding:
    action, command = again or _measure_again(facts, model)
    return Finding(kind, model.name, model.version, found, action, command, unknown(basis))


def _hardware(facts: Facts, model: ModelFacts) -> Iterator[Finding]:
    manifest = model.manifest
    if not (manifest.figures or manifest.latencies or manifest.precision not in _PLAIN):
        return  # nothing in it is of any machine
    lacking = sorted(set(manifest.cpu_flags) - set(facts.here.flags))
    more = sorted(set(facts.here.flags) - set(manifest.cpu_flags))
    told = []
    if lacking:
        told.append(f"that had {', '.join(lacking)}, which this machine lacks")
    if more:
        told.append(f"without {', '.join(more)}, which this machine has")
    if told:
        found = f"it was built and measured on a CPU {' and '.join(told)}"
        yield _finding(facts, model, "hardware", found, "its figures are another machine's")


def _cores(facts: Facts, model: ModelFacts) -> Iterator[Finding]:
    tuned = model.manifest.tuned
    if tuned is None or tuned.machine.cores == facts.here.cores:
        return
    found = f"it was tuned for {tuned.machine.cores} cores; here are {facts.here.cores}, so that is not used"
    words = ["headrace", "tune", f"{model.name}/{model.version}", "--config", facts.config]
    again = "tune it on this machine", shlex.join(words)
    before, after = tuned.figures.get("default_rows_per_s", 0.0), tuned.figures.get("rows_per_s", 0.0)
    if before and after / before > _CLEARLY:
        gain = faster(model, after / before, "estimated", f"tuning made it {after / before:.2f}x there")
        yield Finding("cores", model.name, model.version, found, *again, gain)
    else:
        yield _finding(facts, model, "cores", found, "tuning gained little there", again)


def _library(facts: Facts, model: ModelFacts) -> Iterator[Finding]:
    manifest = model.manifest
    installed = facts.here.libraries.get(manifest.engine, "")
    if is_older(manifest.engine_version, installed):
        found = f"it was built with {manifest.engine} {manifest.engine_version}; installed is {installed}"
        basis = "what the newer library makes of it was not measured"
        yield _finding(facts, model, "library", found, basis)
    elif is_older(installed, manifest.engine_version):
        found = (
            f"it was built with {manifest.engine} {manifest.engine_version}; installed is only {installed}"
        )
        command = f"pip install {manifest.engine}=={manifest.engine_version}"
        again = "install the library that it was measured with", command
        basis = "what the older library makes of it was not measured"
        yield _finding(facts, model, "library", found, basis, again)


def _upgrade(model: ModelFacts, upgrade: Upgrade) -> Iterator[Finding]:
    if upgrade.low <= 1 or upgrade.ratio < _CLEARLY:
        return
    basis = (
        f"{upgrade.ratio:.2f}x the rows per second ({upgrade.low:.2f} to {upgrade.high:.2f}), in turns on "
        "this machine"
    )
    yield Finding(
        "upgrade",
        model.name,
        model.version,
        f"{upgrade.library} {upgrade.newer} runs it faster than {upgrade.installed}, which is installed",
        "install it, and roll the versions out again",
        f"pip install {upgrade.library}=={upgrade.newer}",
        faster(model, upgrade.ratio, "measured", basis),
    )


def _unoptimized(facts: Facts, model: ModelFacts) -> Iterator[Finding]:
    """An original in FP32, where smaller versions lie beside it or were never made."""
    manifest = model.manifest
    if manifest.precision not in _PLAIN or manifest.parent is not None or manifest.engine == "python":
        return
    made = [other for other in model.others if other.parent == model.version and _speedup(other) > _CLEARLY]
    if made:
        best = max(made, key=_speedup)
        drop = best.figures.get("drop")
        told = "" if drop is None else f", with {drop:+.2%} accuracy lost"
        basis = f"measured when version {best.version} was made{told}"
        yield Finding(
            "unoptimized",
            model.name,
            model.version,
            f"the original in FP32 answers, and version {best.version} ({best.precision}) lies beside it",
            "roll that version out",
            shlex.join(["headrace", "rollout", "start", model.name, "--to", best.version]),
            faster(model, _speedup(best), "estimated", basis),
        )
        return
    known = [
        _speedup(other)
        for each in facts.models
        for other in (each.manifest, *each.others)
        if other.parent is not None and _speedup(other) > _CLEARLY
    ]
    gain = unknown("no other model of the repository has been optimized")
    if known:
        basis = f"the median of {len(known)} optimized versions of this repository"
        gain = faster(model, median(known), "estimated", basis)
    yield Finding(
        "unoptimized",
        model.name,
        model.version,
        "it is an original in FP32 that was never optimized",
        "optimize it by a recipe",
        shlex.join(["headrace", "optimize", "RECIPE.py", "--out", f"{facts.repository}/{model.name}"]),
        gain,
    )


def _due(facts: Facts, model: ModelFacts) -> Iterator[Finding]:
    days = model.config.reoptimize_days
    age = age_days(model.manifest, facts.at)
    if not days or age is None or age < days:
        return
    found = f"it was made {age:.0f} days ago; models.{model.name}.reoptimize_days is {days}"
    again = "optimize it again, on recent inputs", model.reoptimize(facts.repository)
    yield _finding(
        facts, model, "due", found, "inputs, libraries and machines change; by how much, is seen", again
    )


def age_days(manifest: Manifest, now: datetime) -> float | None:
    """Since the version was made; None where its manifest tells no time."""
    try:
        made = datetime.fromisoformat(manifest.created)
    except ValueError:
        return None
    made = made if made.tzinfo else made.replace(tzinfo=UTC)
    return (now - made).total_seconds() / 86_400


def _speedup(manifest: Manifest) -> float:
    return manifest.figures.get("speedup", 0.0)
