"""The facts of an audit: what a repository, a configuration, a cluster and its metrics tell."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deployments import audit_metrics
from deployments.audit_metrics import Look
from deployments.everyone import ask_all
from deployments.versions import chosen_versions
from engines.artifact import Artifact, Repository
from engines.cpu import cpu_cores, cpu_flags
from engines.load import REQUIREMENTS
from engines.manifest import Manifest, digest_of
from headrace.config import Config, ModelConfig, load_config, parse_config
from headrace.errors import ArtifactRejected, ConfigRejected, EngineUnavailable, NotFound
from rollout.baseline import read_baseline
from rollout.evidence import together
from rollout.facts import Facts, Here, Judged, Memory, ModelFacts, Recorded
from rollout.fingerprint import fingerprint

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

_PATIENCE_S = 70.0
_JUDGED_S = 300  # that gateways keep
_REPORT = "report.json"
_LARGEST = 4 << 20  # bytes of it


@dataclass(frozen=True, slots=True)
class Sources:
    """Where to look."""

    config: Path | None  # None: what the cluster serves
    address: str | None  # of the Ray cluster; None: it is not asked
    metrics: tuple[str, ...] = ()  # URLs instead of those of the cluster's nodes
    seconds: float = 60.0  # between two looks at them


def gather(sources: Sources) -> Facts:
    """Everything that can be found out; what cannot is among `unknown`, with the reason.

    ConfigRejected and NotFound for what is named wrongly, EngineUnavailable when a server that was named
    does not answer.
    """
    handle = _handle(sources.address) if sources.address is not None else None
    config = load_config(sources.config) if sources.config is not None else _served(handle)
    unknown: list[str] = []
    repository = Repository(Path(config.repository))
    if not repository.names():
        raise ConfigRejected(
            f"repository {config.repository!r} holds no models that can be read here; run the audit where "
            "the server runs, or name a configuration whose repository is on this machine"
        )
    facts = Facts(
        at=datetime.now(UTC),
        here=here(),
        models=tuple(_models(repository, config, unknown)),
        repository=config.repository,
        config=str(sources.config) if sources.config is not None else "CONFIG",
    )
    urls = [each for url in sources.metrics for each in audit_metrics.each_node(url)]
    if handle is not None:
        facts = _asked(facts, handle, unknown)
        urls = urls or _nodes()
    if urls:
        facts = _looked(facts, urls, sources.seconds)
    else:
        unknown.append(
            "traffic, latencies and the use of engines: no server was named (--address, --metrics)"
        )
    if handle is None:
        unknown.append("how full the caches are, and accuracy by feedback: only a server at --address tells")
    return replace(facts, unknown=tuple(unknown))


def here() -> Here:
    """This machine, as engines see it."""
    libraries = {}
    for engine in REQUIREMENTS:
        try:
            libraries[engine] = metadata.version(engine)
        except metadata.PackageNotFoundError:
            continue
    return Here(cpu_cores(), cpu_flags(), libraries)


def _models(repository: Repository, config: Config, unknown: list[str]) -> list[ModelFacts]:
    found = []
    for name, entry in config.models.items():
        try:
            found.append(_model(repository, name, entry, unknown))
        except (ArtifactRejected, NotFound) as err:
            unknown.append(f"{name}: {err}")
    return found


def _model(repository: Repository, name: str, entry: ModelConfig, unknown: list[str]) -> ModelFacts:
    version = chosen_versions(repository, name, entry)[-1]
    others = []
    for other in repository.versions(name):
        try:
            if other != version:
                others.append(repository.manifest(name, other))
        except ArtifactRejected as err:
            unknown.append(f"{name}/{other}: {err}")
    manifest = repository.manifest(name, version)
    return ModelFacts(
        entry,
        manifest,
        tuple(others),
        command=str(_document(repository.root / name / version / _REPORT).get("command", "")),
        baseline=_baseline(repository, manifest, unknown),
    )


def _baseline(repository: Repository, manifest: Manifest, unknown: list[str]) -> Recorded | None:
    """What `headrace baseline record` has kept; its latencies only where they are of a machine like this."""
    where = f"{manifest.name}/{manifest.version}"
    folder = repository.root / manifest.name / manifest.version
    try:
        found = read_baseline(repository, Artifact(folder, manifest, digest_of(manifest)))
    except ArtifactRejected as err:
        unknown.append(f"{where}: {err}")
        return None
    if found is None:
        return None
    slowest: dict[int, float] = {}
    was, now = found.fingerprint, fingerprint()
    if (was.cpu, was.cores, was.gpus) == (now.cpu, now.cores, now.gpus):
        for entry in found.latencies:
            slowest[entry.batch] = max(entry.p95_ms / 1000, slowest.get(entry.batch, 0.0))
    else:
        unknown.append(f"{where}: its baseline is of another machine, so no latency is held against it")
    return Recorded(slowest, found.accuracy.value if found.accuracy else None, found.recorded)


def _document(path: Path) -> dict[str, Any]:
    """A JSON object, or nothing where there is none that can be read."""
    try:
        if path.is_symlink() or path.stat().st_size > _LARGEST:
            return {}
        told = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _handle(address: str) -> DeploymentHandle:
    from deployments.status import served

    return served(address)


def _served(handle: DeploymentHandle | None) -> Config:
    if handle is None:
        raise ConfigRejected("name a configuration, or by --address a cluster that serves one")
    return parse_config(handle.configuration.remote().result(timeout_s=_PATIENCE_S))


def _nodes() -> list[str]:
    """Ray's Prometheus port of each node of the connected cluster."""
    import ray

    return [
        f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        for node in ray.nodes()
        if node["Alive"] and node.get("MetricsExportPort")
    ]


def _asked(facts: Facts, handle: DeploymentHandle, unknown: list[str]) -> Facts:
    """What the gateways tell: what they remember, and which answers were right."""
    try:
        told = ask_all(handle, "cache_stats", timeout_s=_PATIENCE_S)
    except EngineUnavailable as err:
        unknown.append(f"how full the caches are: {err}")
        return replace(facts, models=tuple(_judged(facts.models, handle)))
    memories = tuple(Memory(each["answers"], each["bytes"], each["max_bytes"]) for each in told)
    shared = next((each["shared"] for each in told if each["shared"]), None)
    return replace(
        facts,
        models=tuple(_judged(facts.models, handle)),
        memories=memories,
        shared=shared and Memory(sum(shared["answers"].values()), shared["bytes"], shared["max_bytes"]),
    )


def _judged(models: Sequence[ModelFacts], handle: DeploymentHandle) -> list[ModelFacts]:
    since = {model.name: int(time.time()) - _JUDGED_S for model in models}
    told = ask_all(handle, "seen", since, timeout_s=_PATIENCE_S)
    found = []
    for model in models:
        slots = [
            versions[model.version]
            for each in told
            for versions in each["slots"].get(model.name, {}).values()
            if model.version in versions
        ]
        whole = together(slots)
        found.append(replace(model, judged=Judged(whole.judged, whole.right) if whole.judged else None))
    return found


def _looked(facts: Facts, urls: Sequence[str], seconds: float) -> Facts:
    """Twice, so many seconds apart."""
    first = _look(urls)
    time.sleep(seconds)
    second = _look(urls)
    lately = second.since(first)
    models = [
        replace(
            model,
            processes=second.processes(model.name, model.version),
            lately=lately.traffic(model.name, model.version, second.at_s - first.at_s),
            so_far=second.traffic(model.name, model.version, None),
        )
        for model in facts.models
    ]
    return replace(facts, models=tuple(models))


def _look(urls: Sequence[str]) -> Look:
    texts = audit_metrics.read(urls)
    return audit_metrics.parse(texts, time.monotonic())
