"""An engine that hangs cannot be stopped from within, nor one mended whose GPU has failed: its callers are
answered, then the process ends."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
from collections.abc import Callable, Iterable
from typing import Protocol

_log = logging.getLogger(__name__)
_PERIOD_S = 0.25
_FAREWELL_S = 0.1  # for the answers to leave
_EXIT_CODE = 70  # EX_SOFTWARE


def settle_memory() -> None:
    """Leave what was loaded out of the garbage collector's rounds: in a process with Ray in it a full one
    takes tens of milliseconds, in the middle of somebody's request."""
    gc.collect()
    gc.freeze()


class Watched(Protocol):
    def hung(self) -> float | None: ...
    def is_lost(self) -> bool: ...
    def abandon(self, why: str, *, is_hung: bool) -> None: ...


def _end_process() -> None:
    os._exit(_EXIT_CODE)  # the hung thread would keep an orderly exit waiting


async def watch(hosts: Iterable[Watched], end: Callable[[], None] = _end_process) -> None:
    """Look after the engines of this process until cancelled; Serve starts a new process for one that ended.

    What was in the engine fails, since one of it may be what made it hang or fail. What waited is told to
    try elsewhere, which HAProxy and the gateways do.
    """
    hosts = list(hosts)
    while True:
        await asyncio.sleep(_PERIOD_S)
        ages = {host: ran_s for host in hosts if (ran_s := host.hung()) is not None}
        lost = [host for host in hosts if host.is_lost()]
        if ages:
            why = "an engine has hung"
            _log.error("an engine has run one batch for %.1f s; this replica is replaced", max(ages.values()))
        elif lost:
            why = "a GPU has failed"
            _log.error("a GPU has failed for this process; this replica is replaced")
        else:
            continue
        for host in hosts:
            told = f"{why} and its replica is being replaced; try again"
            host.abandon(told, is_hung=host in ages or host in lost)
        await asyncio.sleep(_FAREWELL_S)
        end()
