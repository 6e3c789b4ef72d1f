"""What a configuration takes of a cluster: pinned versions, and how many nodes of which kind (pure, but for
reading manifests of the repository where it is at hand)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import yaml

from deployments.k8s.options import Node, Options
from deployments.setup import gateways_of, instances_of, setup_of
from engines.artifact import Repository
from headrace.config import Config, ModelConfig, variables_in
from headrace.errors import ConfigRejected

CONFIG_FOLDER = "/etc/headrace"
REPOSITORY = "/models"
CACHE_SECRET = "HEADRACE_CACHE_PASSWORD"  # noqa: S105 - the name of a variable and of a Secret's key
MIN_PORT = 1024  # below, only root may listen
# What else listens in a pod: Ray, its agents and metrics, HAProxy's own, Serve's fallbacks.
STATS_PORT, HAPROXY_METRICS_PORT, FALLBACK_PORT, FALLBACK_GRPC_PORT = 8404, 9101, 8500, 9500
GCS_PORT, DASHBOARD_PORT, CLIENT_PORT, AGENT_PORT = 6379, 8265, 10001, 52365
METRICS_PORT, AUTOSCALER_METRICS_PORT, DASHBOARD_METRICS_PORT = 8080, 44217, 44227
_TAKEN = {
    STATS_PORT: "HAProxy's statistics",
    HAPROXY_METRICS_PORT: "HAProxy's metrics",
    FALLBACK_PORT: "Serve's fallback",
    FALLBACK_GRPC_PORT: "Serve's fallback for gRPC",
    GCS_PORT: "Ray's GCS",
    DASHBOARD_PORT: "Ray's dashboard",
    CLIENT_PORT: "Ray's client server",
    AGENT_PORT: "Ray's agent",
    METRICS_PORT: "Ray's metrics",
    AUTOSCALER_METRICS_PORT: "the autoscaler's metrics",
    DASHBOARD_METRICS_PORT: "the dashboard's metrics",
}
_RAY_PORTS = range(10002, 20000)  # of Ray's workers
_REPLICA_PORTS = range(30000, 32768)  # of Serve's replicas, and what Kubernetes may hand out on nodes


@dataclass(frozen=True, slots=True)
class Ask:
    """One deployment: what each of its replicas takes, and how many there may be."""

    name: str  # "gateways", or the model's
    cpus: int
    gpus: float
    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Group:
    """Nodes of one kind, within the bounds that the autoscaler keeps to."""

    node: Node
    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A configuration as it lies in the pods, and the nodes for it."""

    config: Config
    cpu: Group
    gpu: Group | None  # None: no model asks for a GPU

    @property
    def text(self) -> str:
        """The configuration as YAML."""
        document = self.config.model_dump(mode="json", exclude_unset=True)
        return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)

    @property
    def file(self) -> str:
        """The configuration's name, which changes with every word of it: so whoever is told the name gets
        this one, not the one before it."""
        return f"{hashlib.sha256(self.text.encode()).hexdigest()[:12]}.yaml"

    @property
    def own_cache(self) -> bool:
        """Whether the shared cache is a Redis that is deployed with it."""
        cache = self.config.cache
        return cache.enabled and variables_in(cache.url or "") == [CACHE_SECRET]

    @property
    def secrets(self) -> list[str]:
        """Environment variables that the gateways need, and keys of the Secret that has them."""
        cache = self.config.cache
        return variables_in(cache.url) if cache.enabled and cache.url is not None else []


def plan_of(config: Config, options: Options) -> Plan:
    """ConfigRejected or NotFound when it could not be deployed: the key, its value and what is allowed."""
    _check_ports(config)
    root = Path(config.repository)
    repository = Repository(root) if root.is_dir() else None
    models = {name: _pinned(name, entry, repository, root) for name, entry in config.models.items()}
    config = config.model_copy(update={"models": models})
    if repository is not None:
        config = _decided(config, repository, options)
    asks = asks_of(config, options)
    cpu, gpu = [ask for ask in asks if ask.gpus == 0], [ask for ask in asks if ask.gpus > 0]
    return Plan(
        _in_pods(config, options),
        _group(cpu, options.cpu_node, options, at_least=min(2, config.gateways)),
        _group(gpu, options.gpu_node, options) if gpu else None,
    )


def without_gpus(config: Config) -> Config:
    """The same without what needs a GPU."""
    models = {name: entry for name, entry in config.models.items() if entry.num_gpus == 0}
    pipelines = {
        name: entry for name, entry in config.pipelines.items() if all(step in models for step in entry.steps)
    }
    return config.model_copy(update={"models": models, "pipelines": pipelines})


def _pinned(name: str, entry: ModelConfig, repository: Repository | None, root: Path) -> ModelConfig:
    if repository is None:
        if not entry.versions:
            raise ConfigRejected(
                f"models.{name}.versions is [], and the repository {root} cannot be read here to find the "
                "newest; allowed: the versions to serve, the answering one last"
            )
        return entry
    from deployments.versions import chosen_versions

    return entry.model_copy(update={"versions": chosen_versions(repository, name, entry)})


def _decided(config: Config, repository: Repository, options: Options) -> Config:
    """What tuning decides, decided now for nodes like those to come; what would fail there fails here."""
    from deployments import app

    answering = {n: repository.manifest(n, entry.versions[-1]) for n, entry in config.models.items()}
    config = config.model_copy(update={"gateways": gateways_of(config, answering, options.cpu_node.cpus)})
    models = {}
    for name, entry in config.models.items():
        node = options.gpu_node if entry.num_gpus else options.cpu_node
        for version in entry.versions:  # the answering one is the last
            manifest = repository.manifest(name, version)
            setup = setup_of(entry, manifest, instances_of(config, entry), node.cpus)
        changes: dict[str, Any] = {"threads": setup.threads} if entry.placement == "replicas" else {}
        if changes and setup.batching.permits != entry.batching.permits:
            permits = {"permits": setup.batching.permits}
            changes["batching"] = entry.batching.model_copy(update=permits)
        models[name] = entry.model_copy(update=changes)
    config = config.model_copy(update={"models": models})
    app.pipelines(config)
    return config


def asks_of(config: Config, options: Options) -> list[Ask]:
    """Every deployment of a pinned configuration, gateways first; ConfigRejected when one fits on no node."""
    asks = [Ask("gateways", 1, 0, config.gateways, config.gateways)]
    for name, entry in config.models.items():
        if entry.placement == "inline":
            if entry.num_gpus:
                raise ConfigRejected(
                    f"models.{name}.num_gpus is {entry.num_gpus:g} with placement: inline, in gateways, "
                    "which have no GPU; allowed: 0, or placement: replicas"
                )
            continue
        if entry.num_gpus > options.gpu_node.gpus:
            raise ConfigRejected(
                f"models.{name}.num_gpus is {entry.num_gpus:g}; allowed: up to {options.gpu_node.gpus}, the "
                "GPUs of a node (--gpus-per-node)"
            )
        node, option = (
            (options.gpu_node, "--gpu-node-cpus") if entry.num_gpus else (options.cpu_node, "--cpus-per-node")
        )
        if entry.cores > node.cpus:
            streams = f" for each of {entry.batching.permits} batches" if entry.cores > entry.threads else ""
            raise ConfigRejected(
                f"models.{name}.threads is {entry.threads}{streams}; allowed: up to {node.cpus}, the CPUs of "
                f"a node ({option})"
            )
        least = entry.replicas if entry.autoscaling is None else entry.autoscaling.min_replicas
        asks += [Ask(name, entry.cores, entry.num_gpus, least, entry.max_replicas) for _ in entry.versions]
    return asks


def nodes_for(asks: Sequence[tuple[int, int, float]], node: Node) -> int:
    """How many nodes hold so many replicas, each given as (replicas, cpus, gpus): the largest are placed
    first, each on the first node where it fits."""
    free: list[tuple[int, float]] = []
    for count, cpus, gpus in sorted(asks, key=lambda ask: (ask[2], ask[1]), reverse=True):
        left = count
        for at, (cpus_free, gpus_free) in enumerate(free):
            here = min(left, _fits(cpus_free, gpus_free, cpus, gpus))
            free[at] = (cpus_free - cpus * here, gpus_free - gpus * here)
            left -= here
        each = _fits(node.cpus, node.gpus, cpus, gpus)
        while left > 0:
            here = min(left, each)
            free.append((node.cpus - cpus * here, node.gpus - gpus * here))
            left -= here
    return len(free)


def _fits(cpus_free: int, gpus_free: float, cpus: int, gpus: float) -> int:
    """How many of these go on what is free."""
    by_cpu = cpus_free // cpus
    return by_cpu if gpus == 0 else min(by_cpu, int(gpus_free / gpus + 1e-6))


def _group(asks: Sequence[Ask], node: Node, options: Options, at_least: int = 0) -> Group:
    least = max(at_least, nodes_for([(ask.least, ask.cpus, ask.gpus) for ask in asks], node))
    most = max(at_least, nodes_for([(ask.most, ask.cpus, ask.gpus) for ask in asks], node))
    if most > options.max_nodes:
        largest = max(asks, key=lambda ask: ask.most * max(ask.gpus, ask.cpus))
        key = "gateways" if largest.name == "gateways" else f"the replicas of models.{largest.name}"
        raise ConfigRejected(
            f"at their most, all replicas take {most} nodes of {node.cpus} CPUs and {node.gpus} GPUs, "
            f"foremost {key}, {largest.most} of them; allowed: {options.max_nodes} nodes (--max-nodes)"
        )
    # One more than that, where new replicas of an update start before the old ones end.
    return Group(node, least, min(most + 1, options.max_nodes))


def _check_ports(config: Config) -> None:
    given = {"http.port": config.http.port}
    if config.grpc is not None:
        given["grpc.port"] = config.grpc.port
    for key, port in given.items():
        whose = _TAKEN.get(port) or next(
            (
                who
                for ports, who in ((_RAY_PORTS, "Ray's workers"), (_REPLICA_PORTS, "Serve's replicas"))
                if port in ports
            ),
            None,
        )
        if port < MIN_PORT:
            whose = "root, and nothing runs as root"
        if whose:
            raise ConfigRejected(
                f"{key} is {port}, which in a pod is for {whose}; allowed: {MIN_PORT} to 65535 without "
                f"{', '.join(map(str, sorted(_TAKEN)))}, 10002 to 19999 and 30000 to 32767"
            )


def _in_pods(config: Config, options: Options) -> Config:
    """The repository on its volume, every address listened on, the shared cache in the cluster."""
    changes: dict[str, Any] = {
        "repository": REPOSITORY,
        "http": config.http.model_copy(update={"host": "0.0.0.0", "port": config.http.port}),  # noqa: S104 - a pod's own network; a NetworkPolicy says who may come
        "gateways": config.gateways,
    }
    cache = config.cache
    if cache.enabled and cache.url is None:
        url = f"redis://:${{{CACHE_SECRET}}}@{options.name}-cache:6379/0"
        changes["cache"] = cache.model_copy(update={"url": url})
    elif cache.url is not None:
        _check_cache_url(cache.url)
    return config.model_copy(update=changes)


def _check_cache_url(url: str) -> None:
    """What is in a ConfigMap is no secret."""
    if "://" not in url:
        return  # no URL of a Redis: the cache says so better
    parts = urlsplit(url)
    passwords = [value for key, value in parse_qsl(parts.query) if key.endswith("password")]
    passwords.append(parts.netloc.rpartition("@")[0].partition(":")[2])
    if any(word and variables_in(word) != [word[2:-1]] for word in passwords):
        raise ConfigRejected(
            "cache.url is '***', with a password that everybody could read in a ConfigMap; allowed: "
            "${NAME} in its place, an environment variable that comes from a Secret"
        )
    if url.startswith("unix:"):
        raise ConfigRejected(
            "cache.url is a socket of one machine; allowed: none, or a server all nodes reach"
        )
