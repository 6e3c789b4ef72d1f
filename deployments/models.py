"""All models of a gateway: which versions are ready, and how they come and go."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from deployments.backends import Replicas
from deployments.opener import Opener
from deployments.served import Served
from deployments.traffic import Traffic
from deployments.versions import chosen_versions
from engines.artifact import Repository
from headrace.config import Config
from headrace.errors import NotFound


class Models:
    """The traffic of each model and pipeline."""

    def __init__(self, config: Config, repository: Repository, opener: Opener) -> None:
        self._config = config
        self._repository = repository
        self._opener = opener
        self.traffics: dict[str, Traffic] = {}
        self._background: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Make the versions ready that are there from the start."""
        for name, model in self._config.models.items():
            versions = chosen_versions(self._repository, name, model)
            ready = [await self._opener.open(name, version) for version in versions]
            self.traffics[name] = Traffic(name, ready, self._config.gateways)
        for name in self._config.pipelines:
            self.traffics[name] = self._pipeline(name)

    def traffic(self, model: str) -> Traffic:
        """NotFound lists what is served."""
        traffic = self.traffics.get(model)
        if traffic is None:
            raise NotFound(f"no model {model!r}; served here: {', '.join(sorted(self.traffics))}")
        return traffic

    def versioned(self) -> dict[str, Traffic]:
        """Those that have versions of their own: a pipeline has its steps'."""
        return {name: self.traffics[name] for name in self._config.models}

    def shares(self) -> dict[tuple[str, str], float]:
        """Of a model's requests, by model and version."""
        return {
            (name, version): share
            for name, traffic in self.versioned().items()
            for version, share in traffic.split.shares.items()
        }

    def all_served(self) -> list[Served]:
        return [
            served
            for traffic in self.traffics.values()
            for served in (*traffic.ready.values(), *traffic.leaving)
        ]

    async def open_candidate(self, name: str, version: str) -> Served:
        """One whose replicas run already."""
        return await self._opener.open_candidate(name, version)

    def moved(self, traffic: Traffic) -> None:
        """Another version of a model is the stable one."""
        if self._config.models[traffic.model].placement == "inline":
            self._in_background(self._move_in(traffic, traffic.answering))
        self._join_pipelines(traffic.model)

    async def _move_in(self, traffic: Traffic, served: Served) -> None:
        """A version that has proved itself on replicas of its own runs in this process from now on."""
        if not isinstance(served.backend, Replicas):
            return
        name = traffic.model
        here = await self._opener.open(name, served.version)
        if traffic.ready.get(served.version) is served:
            traffic.ready[served.version] = here
            self.let_go(traffic, served)
            self._join_pipelines(name)
        else:
            self.let_go(traffic, here)

    def _pipeline(self, name: str) -> Traffic:
        steps = [self.traffic(step).find() for step in self._config.pipelines[name].steps]
        return Traffic(name, [self._opener.pipeline(name, steps)], self._config.gateways)

    def _join_pipelines(self, name: str) -> None:
        """Pipelines are made of stable versions."""
        for pipeline, entry in self._config.pipelines.items():
            if name in entry.steps:
                former = self.traffics[pipeline]
                self.traffics[pipeline] = self._pipeline(pipeline)
                self.let_go(former, former.answering)

    def let_go(self, traffic: Traffic, served: Served) -> None:
        """Close it when it has answered what it was asked."""
        self._in_background(self._closed(traffic, served))

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _closed(self, traffic: Traffic, served: Served) -> None:
        await traffic.let_go(served)
        self._opener.closed(served)
