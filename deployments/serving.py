"""Serve a configuration from start to end: cache server, Ray, applications, and all of it ended again."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cache.embedded import EmbeddedServer
from deployments import app
from deployments.cluster import LocalCluster, addresses, connect, start_serve
from deployments.flags import HEAD_BYTES
from deployments.nodes import check_front, check_repository, rooms
from deployments.setup import Setup
from deployments.tracing import check_tracing
from deployments.versions import chosen_versions
from engines.artifact import Repository
from engines.cpu import cpu_cores
from headrace.config import Config

_log = logging.getLogger(__name__)
HINT = "; if one is still to come, say --growing"


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: where to ask it, and the Ray cluster other jobs reach it on."""

    config: Config  # as deployed, the cache's URL filled in
    ray_address: str
    metrics_url: str  # Prometheus; empty on a cluster that is not ours

    @property
    def url(self) -> str:
        return self.addresses[0]

    @property
    def addresses(self) -> list[str]:
        """Where clients connect to, HTTP first."""
        return addresses(self.config.http, self.config.grpc)

    def setups(self) -> dict[str, dict[str, Setup]]:
        """How each version runs."""
        return app.setups(self.config)

    def update(self, config: Config) -> None:
        """Deploy another configuration on the same cluster and cache."""
        config = config.model_copy(update={"cache": self.config.cache})
        app.check_size(config)
        app.deploy(_for_one_machine(config) if self.metrics_url else config)


@contextmanager
def serving(config: Config, *, throughput: bool = True) -> Iterator[Server]:
    """A server on a Ray cluster of its own on this machine, ended with the block."""
    with ExitStack() as stack:
        check_tracing(config.tracing)
        _tell_overruled(config)
        config = _for_one_machine(app.pinned(config))  # what is not there is found before anything starts
        if config.cache.enabled and config.cache.url is None:
            cache_server = EmbeddedServer(config.cache.redis_mib)
            stack.callback(cache_server.stop)
            url = cache_server.start()
            config = config.model_copy(update={"cache": config.cache.model_copy(update={"url": url})})
        cluster = LocalCluster(
            config.http,
            config.grpc,
            num_cpus=app.num_cpus(config),
            throughput=throughput,
            max_message=(config.limits.body_mib << 20) + HEAD_BYTES,
        )
        stack.enter_context(cluster)
        app.check_size(config)
        app.deploy(config)
        yield Server(config, cluster.address, f"http://127.0.0.1:{cluster.metrics_port}/metrics")


def _tell_overruled(config: Config) -> None:
    """A warning where a rollout has left another version than the configuration names."""
    repository = Repository(Path(config.repository))
    for name, entry in config.models.items():
        stable = chosen_versions(repository, name, entry)[-1]
        if entry.versions and stable != entry.versions[-1]:
            _log.warning(
                f"models.{name}.versions ends with {entry.versions[-1]!r}, but version {stable!r} answers "
                f"since its rollout; to change that: headrace rollout start {name} --to {entry.versions[-1]}"
            )


def _for_one_machine(config: Config) -> Config:
    """Its cores bound how many replicas start at a time, unless that is given."""
    models = dict(config.models)
    for name, entry in models.items():
        if entry.autoscaling is not None and entry.autoscaling.starts_at_once is None:
            scaling = entry.autoscaling.model_copy(update={"starts_at_once": cpu_cores()})
            models[name] = entry.model_copy(update={"autoscaling": scaling})
    return config.model_copy(update={"models": models})


def join(config: Config, address: str, *, is_growing: bool = False) -> Server:
    """Deploy on a Ray cluster that runs already; everything stays up when this process ends.

    ConfigRejected before anything is deployed when a node cannot read the repository, or when none is large
    enough for a replica; but not for the latter where larger ones are still to come (`is_growing`).
    """
    if config.cache.enabled and config.cache.url is None:
        _log.warning("no cache.url: on a cluster each gateway keeps answers in its own memory only")
    check_tracing(config.tracing)
    _tell_overruled(config)
    config = app.pinned(config)
    connect(address)
    nodes = [room for room in rooms() if room.holds_replicas]
    check_front(config.http.host, nodes)
    if not is_growing:
        app.check_size(config, HINT)
    check_repository(config, nodes)
    http, grpc = start_serve(config.http, config.grpc)
    if config.grpc is not None and grpc is None:
        _log.warning("no gRPC: Serve runs on this cluster already, started without it")
    check_front(http.host, nodes)  # Serve may have run before, and listens where it did
    config = config.model_copy(update={"http": http, "grpc": grpc})
    app.deploy(config)
    return Server(config, address, "")
