"""The one ingress: HTTP, gRPC and handle calls all become Gateway.infer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray import serve

from batching.sample import InputSample
from batching.seen import SizesSeen
from cache.coherence import Coherence
from cache.halved import Halved
from cache.memory import MemoryCache
from cache.redis import RedisCache
from cache.responses import ResponseCache
from cache.scope import Scope
from deployments import cycle, metrics
from deployments.arguments import request_of
from deployments.autoscale import told
from deployments.backends import Backend, Replicas
from deployments.door import Door
from deployments.grpc import GrpcApp, GrpcMethods
from deployments.http import HttpApp
from deployments.model import ModelHost
from deployments.pipelines import Step, joined
from deployments.recorder import Recorder, Row
from deployments.running import max_calls
from deployments.served import Served, by, one_after_the_other
from deployments.setup import Setup, instances_of, queue_share, setup_of
from deployments.watch import settle_memory, watch
from engines.artifact import Artifact, Repository
from engines.cpu import cpu_cores
from headrace.config import Config, ModelConfig, PipelineConfig, with_variables
from headrace.errors import HeadraceError, NotFound, Overloaded
from headrace.metrics import CACHE_FAULTS, ERRORS, REQUEST_LATENCY
from headrace.requests import CacheMode, InferRequest, InferResponse, Ran
from headrace.tensors import Array, Signature

APP_PREFIX = "headrace:"


def _bytes(mib: float) -> int:
    return int(mib * 2**20)


def _seconds(ms: float | None) -> float | None:
    return None if ms is None else ms / 1000


def app_name(model: str, version: str) -> str:
    """The Serve application that holds the replicas of one model version."""
    return f"{APP_PREFIX}{model}:{version}"  # no name holds a colon, so no two versions share one


def chosen_versions(repository: Repository, model: str, config: ModelConfig) -> list[str]:
    """The versions to serve, the answering one last; NotFound when the repository lacks one."""
    there = repository.versions(model)
    for version in config.versions:
        if version not in there:
            raise NotFound(f"model {model!r} has no version {version!r}; there are: {', '.join(there)}")
    return list(config.versions) or there[-1:]


class Gateway(GrpcMethods):
    """Answers requests for every configured model, from the cache or from its backend."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it: ready means loaded and warm
        self, config: dict[str, Any]
    ) -> None:
        cycle.install()
        self._config = Config.model_validate(config)
        self.grpc = GrpcApp(self, self._config.limits, self._config.cache.tenant_header)
        self._models: dict[str, dict[str, Served]] = {}
        self._memory = MemoryCache(_bytes(self._config.cache.memory_mib))
        self._shared = self._open_shared()
        self._recorder = Recorder()
        self._hosts: list[ModelHost] = []
        self._replicas: dict[str, Replicas] = {}  # by application
        repository = Repository(Path(self._config.repository))
        for name, model in self._config.models.items():
            self._models[name] = {}
            for version in chosen_versions(repository, name, model):
                artifact = repository.open(name, version)
                self._models[name][version] = await self._serve(artifact, model)
        queues = {
            (name, v): served.backend
            for name, all_ in self._models.items()
            for v, served in all_.items()
            if served.backend is not None
        }
        for name, pipeline in self._config.pipelines.items():
            served = self._pipeline(name, pipeline)
            self._models[name] = {served.version: served}
        self._tasks = [
            asyncio.create_task(metrics.report(queues)),
            asyncio.create_task(watch(self._hosts)),
        ]
        if self._shared is not None:
            self._tasks.append(asyncio.create_task(Coherence(self._shared, self._forget).watch()))
        settle_memory()

    async def __del__(self) -> None:
        """Serve awaits this when the replica stops: answer what was accepted, write what is to be kept."""
        for task in self._tasks:
            task.cancel()
        for versions in self._models.values():
            await asyncio.gather(*(served.close() for served in versions.values()))

    def __serve_build_asgi_app__(self) -> HttpApp:
        return HttpApp(self, self._config.limits, self._config.cache.tenant_header)

    async def infer(
        self,
        model: str,
        inputs: Mapping[str, Array],
        version: str | None = None,
        outputs: tuple[str, ...] = (),
        timeout_s: float | None = None,
        cache: CacheMode = "use",
        tenant: str = "",
        priority: int = 0,
    ) -> dict[str, Array]:
        """The output arrays of `model` for `inputs`, by name: arrays in, arrays out, nothing of ours.

        `outputs` names the wanted ones (none: all), `timeout_s` is in seconds (0: no limit), `priority`
        1 goes first and larger numbers later (0: the default level).

        Raises the errors of headrace.errors; through a handle they arrive as a RayTaskError
        that is an instance of the original's class, too.
        """
        request = request_of(model, inputs, version, outputs, timeout_s, cache, tenant, priority)
        return dict((await self.answer(request)).outputs)

    async def answer(self, request: InferRequest) -> InferResponse:
        """The answer to a decoded request, counted and timed."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        version = request.version or ""
        try:
            served = self.find(request.model, request.version)
            version = served.version
            ran = await self._at_the_door(served, request, started)
        except HeadraceError as err:
            self.count_error(err, request.model, version)
            raise
        outputs = {name: ran.outputs[name] for name in request.outputs} if request.outputs else ran.outputs
        metrics.observe(REQUEST_LATENCY, loop.time() - started, (request.model, version))
        return InferResponse(request.model, version, outputs, request.id, ran.timings)

    async def _at_the_door(self, served: Served, request: InferRequest, started: float) -> Ran:
        timeout_s = request.timeout_s or served.timeout_s
        served.door.came(started, timeout_s)
        try:
            return await served.infer(request, started + timeout_s if timeout_s else None)
        except Overloaded as err:
            served.door.refused(started, err.retry_after_s, timeout_s)
            raise
        finally:
            served.door.left()

    def find(self, model: str, version: str | None = None) -> Served:
        """The version that answers; NotFound lists what is served."""
        versions = self._models.get(model)
        if versions is None:
            raise NotFound(f"no model {model!r}; served here: {', '.join(sorted(self._models))}")
        if version is None:
            return next(reversed(versions.values()))
        if version not in versions:
            raise NotFound(f"model {model!r} has no version {version!r}; served here: {', '.join(versions)}")
        return versions[version]

    def versions(self, model: str) -> list[str]:
        self.find(model)
        return list(self._models[model])

    def models(self) -> dict[str, list[str]]:
        """The served versions of each model, the answering one last."""
        return {model: list(versions) for model, versions in self._models.items()}

    def setups(self) -> dict[str, dict[str, dict[str, Any]]]:
        """How each served version runs, and where that came from."""
        return {
            name: {version: served.setup.told() for version, served in versions.items() if served.setup}
            for name, versions in self._models.items()
            if name in self._config.models
        }

    def shapes(self, model: str, version: str | None = None) -> list[dict[str, Any]]:
        """The sizes of the requests that this gateway has had computed, each with its count of rows."""
        return self.find(model, version).seen.told()

    def kept_inputs(self, model: str, version: str | None = None) -> list[dict[str, Array]]:
        """Some of the inputs that this gateway has had computed of late; NotFound where none are kept."""
        served = self.find(model, version)
        if served.sample is None:
            raise NotFound(f"no inputs of model {model!r} are kept; set models.{model}.keep_inputs: 500")
        return served.sample.kept()

    async def purge(
        self,
        model: str | None = None,
        version: str | None = None,
        tenant: str | None = None,
        key: str | None = None,
    ) -> int:
        """Have every gateway forget the answers of a model, of one of its versions, of a tenant ("": requests
        without one), the one with a key, or all; how many were in the shared cache. CallerError for names
        that cannot be, NotFound where no cache is shared: then each gateway is to be told (`forget`).
        """
        scope = Scope.of(model, version, tenant, key)
        if self._shared is None:
            raise NotFound("no cache is shared here (cache.url)")
        count = await self._shared.purge(scope)
        self._forget(scope)  # the others hear of it
        return count

    async def forget(
        self,
        model: str | None = None,
        version: str | None = None,
        tenant: str | None = None,
        key: str | None = None,
    ) -> None:
        """The same in this gateway alone; on its event loop, as whatever touches the caches."""
        self._forget(Scope.of(model, version, tenant, key))

    async def cache_stats(self) -> dict[str, Any]:
        """What the shared cache holds (None: there is none), and what this gateway remembers."""
        memories = self._memories()
        return {
            "shared": None if self._shared is None else await self._shared.stats(),
            "answers": sum(map(len, memories)),
            "bytes": sum(memory.num_bytes for memory in memories),
            "max_bytes": sum(memory.max_bytes for memory in memories),
        }

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """For the models' autoscaling policies; Serve asks twice a second."""
        reports = {name: backend.report() for name, backend in self._replicas.items()}
        return told(reports)

    async def record(self, is_on: bool) -> None:
        """Note what is asked from now on, or no longer."""
        self._recorder.turn(is_on)

    async def recorded(self) -> list[Row]:
        """What was asked since the last call."""
        return self._recorder.collect()

    def _forget(self, scope: Scope) -> None:
        for cache in self._caches():
            cache.forget(scope)
        for memory in self._memories():
            memory.drop_all(scope.matches)

    def _caches(self) -> list[ResponseCache]:
        return [
            served.responses
            for versions in self._models.values()
            for served in versions.values()
            if served.responses is not None
        ]

    def _memories(self) -> list[MemoryCache]:
        """Each once: models share them."""
        return list({id(cache.memory): cache.memory for cache in self._caches()}.values())

    def count_error(self, err: HeadraceError, model: str = "", version: str = "") -> None:
        known = self._models.get(model, {})  # labels stay bounded, whatever callers ask for
        labels = (model if known else "", version if version in known else "", err.kind)
        metrics.count(ERRORS, labels)

    def _open_shared(self) -> RedisCache | None:
        cache = self._config.cache
        if not cache.enabled or cache.url is None:
            return None
        return RedisCache(
            with_variables(cache.url, os.environ),
            prefix=cache.prefix,
            timeout_s=cache.timeout_ms / 1000,
            on_fault=lambda _: metrics.count(CACHE_FAULTS),
        )

    def _responses(self, entry: ModelConfig | PipelineConfig, signature: Signature) -> ResponseCache | None:
        cache = self._config.cache
        if not (cache.enabled and entry.cache):
            return None
        own = entry.cache_memory_mib
        memory = self._memory if own is None else MemoryCache(_bytes(own))
        halved = Halved(signature) if entry.cache_precision == "fp16" else None
        shared = None if entry.cache_shared == "never" else self._shared
        is_always = entry.cache_shared == "always"
        return ResponseCache(memory, shared, entry.cache_ttl_s or cache.ttl_s, halved, is_always)

    async def _serve(self, artifact: Artifact, model: ModelConfig) -> Served:
        """Ready: with placement "inline" its engine is loaded and warm."""
        setup = setup_of(model, artifact.manifest, instances_of(self._config, model), cpu_cores())
        engines = model.batching.permits * (model.max_replicas if model.placement == "replicas" else 1)
        backend = await self._backend(artifact, model, setup)
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
            sample=InputSample(model.keep_inputs) if model.keep_inputs else None,
        )

    def _pipeline(self, name: str, pipeline: PipelineConfig) -> Served:
        steps = [self.find(step) for step in pipeline.steps]
        backends = [step.backend for step in steps if step.backend is not None]
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
                lambda: max(backend.usual_s() for backend in backends),
            ),
            SizesSeen(),
            self._recorder,
            steps=tuple(steps),
        )

    async def _backend(self, artifact: Artifact, model: ModelConfig, setup: Setup) -> Backend:
        if model.placement == "inline":
            host = ModelHost(artifact, setup)
            await host.start()
            self._hosts.append(host)
            return host
        manifest = artifact.manifest
        name = app_name(manifest.name, manifest.version)
        backend = self._replicas[name] = Replicas(
            serve.get_app_handle(name),
            manifest.signature,
            setup.batching,
            max_calls=lambda: max_calls(name),
            max_pack=2 * setup.batching.max_batch,
            max_queue=queue_share(model, self._config.gateways),
        )
        return backend
