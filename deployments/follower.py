"""Keeps a gateway's traffic as the repository says."""

from __future__ import annotations

import asyncio
import logging

from deployments.models import Models
from deployments.traffic import Traffic
from headrace.errors import HeadraceError
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
                        await self._follow(traffic, state)
                    self._stamps[name], traffic.problem = stamps[name], ""
                except Exception as err:
                    told = str(err) if isinstance(err, HeadraceError) else type(err).__name__
                    if told != traffic.problem:
                        _log.warning(f"model {name!r} is answered as before: {told}", exc_info=err)
                    traffic.problem = told

    async def _follow(self, traffic: Traffic, state: State) -> None:
        split = state.split
        copied = [] if split.shadow is None else [split.shadow[0]]
        for version in dict.fromkeys([state.stable, *split.shares, *copied]):
            if version not in traffic.ready:
                traffic.ready[version] = await self._models.open_candidate(traffic.model, version)
        is_other = state.stable != traffic.stable
        traffic.follow(state)
        for version in traffic.ready.keys() - {*state.versions, *traffic.named}:
            self._models.let_go(traffic, traffic.ready.pop(version))
        if is_other:
            self._models.moved(traffic)
