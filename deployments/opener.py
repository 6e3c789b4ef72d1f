"""Makes versions ready to answer in this gateway: in its own process, or on replicas behind a handle."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ray.serve.handle import DeploymentHandle

from batching.sample import InputSample
from batching.seen import SizesSeen
from cache.halved import Halved
from cache.memory import MemoryCache
from cache.responses import ResponseCache
from deployments.backends import Backend, Replicas
from deployments.declared import cheaper_for
from deployments.door import Door
from deployments.model import ModelHost
from deployments.pipelines import Step, joined
from deployments.recorder import Recorder
from deployments.remembered import Remembered, num_bytes
from deployments.running import max_calls
from deployments.served import Served, by, one_after_the_other
from deployments.setup import Setup, instances_of, queue_share, setup_of
from deployments.tracing import Tracing
from deployments.versions import app_name
from engines.artifact import Artifact, Repository
from engines.cpu import cpu_cores
from headrace.config import Config, ModelConfig, PipelineConfig
from headrace.tensors import Signature
from monitoring.recorder import Seconds


def _seconds(ms: float | None) -> float | None:
    return None if ms is None else ms / 1000


class Opener:
    """What all versions in a gateway share is given to it."""

    def __init__(
        self,
        config: Config,
        repository: Repository,
        remembered: Remembered,
        recorder: Recorder,
        seconds: Seconds,
        queues: dict[tuple[str, str], Backend],
        tracing: Tracing | None = None,
    ) -> None:
        """Those that are open are in `queues`, by model and version."""
        self._config = config
        self._repository = repository
        self._remembered = remembered
        self._recorder = recorder
        self._seconds = seconds
        self._tracing = tracing
        self.hosts: list[ModelHost] = []  # in this process
        self.queues = queues
        self.replicas: dict[str, Replicas] = {}  # by application

    async def open(self, name: str, version: str, *, is_candidate: bool = False) -> Served:
        """Ready: with placement "inline" its engine is loaded and warm. A candidate has replicas of its own,
        whatever the placement: what it does to its process, it does to no caller of the stable version."""
        model = self._config.models[name]
        is_inline = model.placement == "inline" and not is_candidate
        find = self._repository.open if is_inline else self._repository.describe
        artifact = await asyncio.to_thread(find, name, version)
        setup = setup_of(model, artifact.manifest, instances_of(self._config, model), cpu_cores())
        engines = model.batching.permits * (model.max_replicas if model.placement == "replicas" else 1)
        backend = await self._host(artifact, setup) if is_inline else self._behind(artifact, model, setup)
        self.queues[name, version] = backend
        manifest = artifact.manifest
        return Served(
            Step(manifest.name, manifest.version, artifact.digest, manifest.signature),
            manifest.engine,
            by(backend),
            self._responses(model, manifest.signature),
            _seconds(model.timeout_ms),
            Door(self._config.gateways, 2 * engines, backend.usual_s),  # one in each, one next
            SizesSeen(),
            self._recorder,
            setup,
            backend,
            cheaper=cheaper_for(model, manifest, self._repository),
            sample=InputSample(model.keep_inputs) if model.keep_inputs else None,
        )

    async def open_candidate(self, name: str, version: str) -> Served:
        """One whose replicas run already."""
        served = await self.open(name, version, is_candidate=True)
        assert isinstance(served.backend, Replicas)
        await served.backend.reach()
        return served

    def closed(self, served: Served) -> None:
        """Nothing is asked of it any more."""
        name = served.name, served.version
        if self.queues.get(name) is served.backend:
            del self.queues[name]
        self.hosts[:] = [host for host in self.hosts if host is not served.backend]
        if self.replicas.get(app_name(*name)) is served.backend:
            del self.replicas[app_name(*name)]

    def pipeline(self, name: str, steps: Sequence[Served]) -> Served:
        """Models that are ready, one after the other."""
        pipeline = self._config.pipelines[name]
        whole = joined(name, [step.step for step in steps])
        return Served(
            whole,
            "pipeline",
            one_after_the_other(steps),
            self._responses(pipeline, whole.signature),
            _seconds(pipeline.timeout_ms),
            Door(
                self._config.gateways,
                max(step.door.floor for step in steps),
                lambda: max(step.usual_s() for step in steps),
            ),
            SizesSeen(),
            self._recorder,
            steps=tuple(steps),
        )

    async def _host(self, artifact: Artifact, setup: Setup) -> Backend:
        host = ModelHost(artifact, setup, self._seconds, self._tracing)
        await host.start()
        self.hosts.append(host)
        return host

    def _behind(self, artifact: Artifact, model: ModelConfig, setup: Setup) -> Backend:
        manifest = artifact.manifest
        name = app_name(manifest.name, manifest.version)
        backend = self.replicas[name] = Replicas(
            DeploymentHandle("Model", name),
            manifest.signature,
            setup.batching,
            max_calls=lambda: max_calls(name),
            max_pack=2 * setup.batching.max_batch,
            max_queue=queue_share(model, self._config.gateways),
        )
        return backend

    def _responses(self, entry: ModelConfig | PipelineConfig, signature: Signature) -> ResponseCache | None:
        cache = self._config.cache
        if not (cache.enabled and entry.cache):
            return None
        own = entry.cache_memory_mib
        memory = self._remembered.memory if own is None else MemoryCache(num_bytes(own))
        halved = Halved(signature) if entry.cache_precision == "fp16" else None
        shared = None if entry.cache_shared == "never" else self._remembered.shared
        is_always = entry.cache_shared == "always"
        return ResponseCache(memory, shared, entry.cache_ttl_s or cache.ttl_s, halved, is_always)
