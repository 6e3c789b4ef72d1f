"""Keeps a gateway's traffic as the repository says."""

from __future__ import annotations

import asyncio
import logging

from deployments.models import Models
from deployments.traffic import Traffic
from headrace.errors import EngineUnavailable, HeadraceError
from rollout.state import State
from rollout.store import Stamp, Store

_log = logging.getLogger(__name__)

LOOK_S = 0.25  # between two looks at the repository; whoever changes something tells us besides


class Follower:
    """Keeps a gateway's traffic as the repository says: a file that is there for whoever starts later."""

    def __init__(self, store: Store, models: Models) -> None:
        self._store = store
        self._models = models
        self._stamps: dict[str, Stamp | None] = {}
        self._looking = asyncio.Lock()
        self._opening: dict[tuple[str, str], asyncio.Task[None]] = {}  # by model and version
        self._failures: dict[tuple[str, str], str] = {}

    async def watch(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Follow what has changed, and what could not be followed so far."""
        traffics = self._models.versioned()
        async with self._looking:
            stamps = await asyncio.to_thread(lambda: {name: self._store.stamp(name) for name in traffics})
            for name, traffic in traffics.items():
                if stamps[name] == self._stamps.get(name) and not traffic.problem:
                    continue
                try:
                    state = await asyncio.to_thread(self._store.read, name)
                    if state is not None:
                        self._follow(traffic, state)
                    self._stamps[name], traffic.problem = stamps[name], ""
                except Exception as err:
                    told = _told(err)
                    if told != traffic.problem:
                        level = logging.INFO if isinstance(err, EngineUnavailable) else logging.WARNING
                        _log.log(level, f"model {name!r} is answered as before: {told}")
                    traffic.problem = told

    async def ready(self) -> None:
        """Until no version is being made ready."""
        while self._opening:
            await asyncio.wait(self._opening.values())

    def _follow(self, traffic: Traffic, state: State) -> None:
        """At once, or EngineUnavailable while a version is made ready: that may take its time, and other
        models' changes are not to wait for it."""
        split = state.split
        copied = [] if split.shadow is None else [split.shadow[0]]
        needed = dict.fromkeys([state.stable, *split.shares, *copied])
        if missing := [version for version in needed if version not in traffic.ready]:
            for version in missing:
                self._open(traffic, version)
            why = self._failures.get((traffic.model, missing[0]), "it is not ready here yet")
            raise EngineUnavailable(f"version {missing[0]!r}: {why}")
        is_other = state.stable != traffic.stable
        traffic.follow(state)
        for version in traffic.ready.keys() - {*state.versions, *traffic.named}:
            self._models.let_go(traffic, traffic.ready.pop(version))
        if is_other:
            self._models.moved(traffic)

    def _open(self, traffic: Traffic, version: str) -> None:
        key = traffic.model, version
        if key not in self._opening:
            self._opening[key] = asyncio.create_task(self._opened(traffic, version))

    async def _opened(self, traffic: Traffic, version: str) -> None:
        key = traffic.model, version
        try:
            traffic.ready[version] = await self._models.open_candidate(*key)
            self._failures.pop(key, None)
            self._stamps.pop(traffic.model, None)  # it may not be wanted any more
            await self.look()
        except Exception as err:  # whatever it is, it is tried again at the next look
            self._failures[key] = _told(err)
        finally:
            del self._opening[key]


def _told(err: Exception) -> str:
    return str(err) if isinstance(err, HeadraceError) else type(err).__name__
