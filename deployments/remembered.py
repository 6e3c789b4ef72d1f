"""All that a gateway remembers of answers: the caches of its models, and the one that is shared."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import Any

from ray.serve.exceptions import DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from cache.coherence import Coherence
from cache.memory import MemoryCache
from cache.redis import RedisCache
from cache.responses import ResponseCache
from cache.scope import Scope
from deployments import metrics
from deployments.everyone import ask_all_async
from deployments.served import Served
from deployments.versions import GATEWAY_APP
from headrace.config import CacheConfig, with_variables
from headrace.errors import EngineUnavailable, NotFound
from headrace.metrics import CACHE_FAULTS

_FORGET_S = 5.0
_NOT_ALL = "not every gateway has forgotten them, since one does not answer; ask again"
_SIZE_S = 5.0  # between two questions how much the shared cache holds


def num_bytes(mib: float) -> int:
    return int(mib * 2**20)


class Remembered:
    """`memory` is that of models without one of their own; `shared` is None where no cache is shared."""

    def __init__(self, config: CacheConfig) -> None:
        self.memory = MemoryCache(num_bytes(config.memory_mib))
        self.shared = _opened(config)
        self._all_served: Callable[[], Sequence[Served]] = tuple
        self._size: dict[str, Any] | None = None
        self._size_at = float("-inf")

    def by(self, all_served: Callable[[], Sequence[Served]]) -> None:
        """Whose caches these are."""
        self._all_served = all_served

    def coherence(self) -> Coherence | None:
        """What hears of purges by others."""
        return None if self.shared is None else Coherence(self.shared, self.forget)

    def check_model(self, model: str) -> None:
        """NotFound lists what is served."""
        served = sorted({each.name for each in self._all_served()})
        if model not in served:
            raise NotFound(f"no model {model!r}; served here: {', '.join(served)}")

    async def purge(self, scope: Scope) -> int:
        """Have every gateway forget; how many were in the shared cache. NotFound where there is none."""
        if self.shared is None:
            raise NotFound("no cache is shared here (cache.url)")
        count = await self.shared.purge(scope)
        self.forget(scope)  # the others hear of it
        return count

    def forget(self, scope: Scope) -> None:
        for cache in self._caches():
            cache.forget(scope)
        for memory in self._memories():
            memory.drop_all(scope.matches)

    async def stats(self) -> dict[str, Any]:
        """What the shared cache holds of each version (None: there is none), and what is remembered here."""
        return {"shared": None if self.shared is None else await self.shared.stats(), **self._here()}

    async def told(self) -> dict[str, Any]:
        """The same with the sizes alone, which cost next to nothing; None also when it did not answer."""
        now = asyncio.get_running_loop().time()
        if self.shared is not None and now - self._size_at > _SIZE_S:
            self._size_at = now
            try:
                self._size = await self.shared.size()
            except EngineUnavailable:
                self._size = None
        return {"shared": self._size, **self._here()}

    def _here(self) -> dict[str, int]:
        memories = self._memories()
        return {
            "answers": sum(map(len, memories)),
            "bytes": sum(memory.num_bytes for memory in memories),
            "max_bytes": sum(memory.max_bytes for memory in memories),
        }

    def _caches(self) -> list[ResponseCache]:
        return [served.responses for served in self._all_served() if served.responses is not None]

    def _memories(self) -> list[MemoryCache]:
        """Each once: models share them."""
        return list({id(cache.memory): cache.memory for cache in self._caches()}.values())


class CacheMethods:
    """What can be asked of the caches by handle; the gateway inherits it."""

    remembered: Remembered

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
        return await self.remembered.purge(Scope.of(model, version, tenant, key))

    async def forget(
        self,
        model: str | None = None,
        version: str | None = None,
        tenant: str | None = None,
        key: str | None = None,
    ) -> None:
        """The same in this gateway alone; on its event loop, as whatever touches the caches."""
        self.remembered.forget(Scope.of(model, version, tenant, key))

    async def purge_model(self, model: str) -> int | None:
        """No gateway remembers an answer of a model any more; how many were in the shared cache, None
        where there is none. NotFound for a model that is not served."""
        self.remembered.check_model(model)
        if self.remembered.shared is not None:
            return await self.purge(model)
        gateways = DeploymentHandle("Gateway", GATEWAY_APP)
        try:
            told = await ask_all_async(gateways, "forget", model, timeout_s=_FORGET_S)
        except (TimeoutError, DeploymentUnavailableError) as err:
            raise EngineUnavailable(_NOT_ALL) from err
        if failed := next((entry for entry in told if isinstance(entry, Exception)), None):
            raise EngineUnavailable(_NOT_ALL) from failed
        return None

    async def cache_stats(self) -> dict[str, Any]:
        """What the shared cache holds (None: there is none), and what this gateway remembers."""
        return await self.remembered.stats()

    async def cache_size(self) -> dict[str, Any] | None:
        """What the shared cache holds in short, None where there is none; EngineUnavailable when it does not
        answer."""
        shared = self.remembered.shared
        return None if shared is None else await shared.size()


def _opened(config: CacheConfig) -> RedisCache | None:
    if not config.enabled or config.url is None:
        return None
    return RedisCache(
        with_variables(config.url, os.environ),
        prefix=config.prefix,
        timeout_s=config.timeout_ms / 1000,
        on_fault=lambda _: metrics.count(CACHE_FAULTS),
    )
