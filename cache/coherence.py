"""What is purged in one process is forgotten in all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from cache.kept import PurgeLog
from cache.scope import Scope

_PERIOD_S = 0.3
_CUT_OFF_S = 0.6  # without news


class Store(Protocol):
    async def purges(self, seen: int) -> PurgeLog | None: ...


class Coherence:
    """Looks into the shared store's log of purges, and tells what is to be forgotten.

    Looks rather than a subscription: a log can be read again after whatever went wrong in between, and a
    message that was lost is lost. While the store is out of reach nobody can tell what is purged: then all
    that this process remembers is forgotten, once; what it computes afterwards is its own. The same where
    the log is not the one known so far (evicted, begun anew, or another server's after a failover).
    """

    def __init__(self, store: Store, forget: Callable[[Scope], None]) -> None:
        self._store = store
        self._forget = forget
        self._log: bytes | None = None  # its first entry, which is unlike that of any other log
        self._seen = 0
        self._is_new = True
        self._heard_at = 0.0
        self._is_cut_off = False

    async def watch(self) -> None:
        """Look until cancelled."""
        self._heard_at = asyncio.get_running_loop().time()
        while True:
            await self.look()
            await asyncio.sleep(_PERIOD_S)

    async def look(self) -> None:
        log = await self._store.purges(self._seen)
        now = asyncio.get_running_loop().time()
        if log is None:
            if now - self._heard_at > _CUT_OFF_S and not self._is_cut_off:
                self._is_cut_off = True
                self._forget(Scope())
            return
        self._heard_at, self._is_cut_off = now, False
        is_known = log.first == self._log or self._log is None  # it began where there was none
        if self._is_new:
            pass
        elif is_known and log.length >= self._seen:
            for scope in log.entries:
                self._forget(scope)
        else:
            self._forget(Scope())
        self._log, self._seen, self._is_new = log.first, log.length, False
