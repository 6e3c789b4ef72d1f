"""A profile of this process under its real traffic: one at a time, and switched off whatever happens."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Any, Protocol, cast

from ray.serve.exceptions import DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from deployments.backends import Replicas
from deployments.everyone import ask_all_async
from deployments.served import Served
from deployments.versions import app_name
from engines.artifact import Artifact
from engines.base import Engine
from headrace.errors import CallerError, Conflict, EngineUnavailable, HeadraceError, ToolFailed
from monitoring.told import Told
from profiling.outcome import MAX_BYTES, Raw, Taken
from profiling.probe import Probe
from profiling.tools import Tool, check, make

_log = logging.getLogger(__name__)
_LOOK_S = 0.1
_ANSWER_S = 5.0
_OF_LATE_S = 10.0
_NOBODY = "no replica of this version answers; one that sleeps wakes when it is asked: try again"
PATIENCE_S = 400.0  # beyond the profile itself: a second engine is loaded, a report is made
_tasks: set[asyncio.Task[dict[str, Any]]] = set()  # the one under way in this process
_leaving: dict[str, asyncio.Event] = {}  # its own, by its id
_farewells: set[asyncio.Task[Any]] = set()


class Host(Protocol):
    """Of deployments.model.ModelHost."""

    artifact: Artifact

    @property
    def engine(self) -> Engine: ...

    @property
    def threads(self) -> int: ...

    def probed(self, probe: Probe, engine: Engine) -> AbstractContextManager[None]: ...


async def of(served: Served, tool: str, seconds: float) -> dict[str, Any]:
    """`take` where this version runs: in this gateway, or in one of its replicas."""
    check(tool, seconds)
    backend = served.backend
    if backend is None:
        steps = ", ".join(step.name for step in served.steps)
        raise CallerError(f"'{served.name}' is a pipeline; profile one of its steps: {steps}")
    if not isinstance(backend, Replicas):
        return await take(cast(Host, backend), tool, seconds, "gateway")
    return await _of_replica(DeploymentHandle("Model", app_name(served.name, served.version)), tool, seconds)


async def _of_replica(handle: DeploymentHandle, tool: str, seconds: float) -> dict[str, Any]:
    """`take` in the replica that has had most to do of late: with affinity others may have nothing."""
    busiest, id = await _busiest(handle), uuid.uuid4().hex
    patience_s = seconds + PATIENCE_S
    try:
        answers = await ask_all_async(handle, "profile", tool, seconds, busiest, id, timeout_s=patience_s)
    except asyncio.CancelledError:
        task = asyncio.create_task(ask_all_async(handle, "end_profile", id, timeout_s=_ANSWER_S))
        _farewells.add(task)
        task.add_done_callback(_farewells.discard)
        raise
    for answer in answers:
        if isinstance(answer, HeadraceError):
            raise answer
        if isinstance(answer, dict):
            return answer
    if any(isinstance(answer, TimeoutError) for answer in answers):
        raise ToolFailed(f"the profile did not end within {patience_s:.0f} s")
    raise EngineUnavailable("the replica that was profiled has ended; try again")


async def _busiest(handle: DeploymentHandle) -> str:
    """The id of the replica that has run most rows; EngineUnavailable when none runs or answers."""
    try:
        answers = await ask_all_async(
            handle, "figures_since", int(time.time() - _OF_LATE_S), timeout_s=_ANSWER_S
        )
    except (TimeoutError, DeploymentUnavailableError) as err:
        raise EngineUnavailable(_NOBODY) from err
    rows = {
        told.id: sum(batches.rows for slot in told.slots.values() for batches in slot.batches.values())
        for told in answers
        if isinstance(told, Told)
    }
    if not rows:
        raise EngineUnavailable(_NOBODY)
    return max(rows, key=lambda id: rows[id])


def end_early(id: str) -> None:
    """Who asked for the profile of this id has left; others in this process go on."""
    if (leaving := _leaving.get(id)) is not None:
        leaving.set()


async def take(host: Host, tool: str, seconds: float, kind: str, id: str = "") -> dict[str, Any]:
    """What `tool` finds in this process within `seconds`, as a profiling.outcome.Taken in plain data.

    Conflict while there is another profile of this process. If who asks leaves, it ends early.
    """
    if _tasks:
        raise Conflict("this process is being profiled; try again when that has ended")
    leaving = asyncio.Event()
    task = asyncio.create_task(_take(host, tool, seconds, kind, leaving))
    _tasks.add(task)
    _leaving[id] = leaving
    task.add_done_callback(_ended)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        leaving.set()
        raise


def _ended(task: asyncio.Task[dict[str, Any]]) -> None:
    _tasks.discard(task)
    _leaving.clear()
    if not task.cancelled():
        task.exception()  # who asked may have left: nobody else is told


async def _take(host: Host, name: str, seconds: float, kind: str, leaving: asyncio.Event) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    raw = Raw()
    # One thread for all calls: what a tool begins on a thread it must often end on the same.
    with ThreadPoolExecutor(1, "profile") as threads:

        async def on_thread(function: Callable[..., Any], *arguments: Any) -> Any:
            try:
                return await loop.run_in_executor(threads, function, *arguments)
            except HeadraceError:
                raise
            except Exception as err:
                _log.exception("a profiler failed")
                raise ToolFailed(f"{name} failed ({type(err).__name__}); the server's log says why") from err

        tool: Tool = await on_thread(_made, name, host.artifact, host.threads, seconds)
        try:
            engine = await on_thread(tool.begin, host.engine, seconds)
            probe = Probe(tool.ranges)
            started = loop.time()
            with host.probed(probe, engine):
                await _until(started + seconds, tool, leaving)
            passed_s = loop.time() - started
        finally:
            raw = await on_thread(tool.end)
    size = sum(map(len, raw.files.values()))
    if size > MAX_BYTES:
        raise ToolFailed(
            f"the profile has {size >> 20} MiB, of {MAX_BYTES >> 20} at most; take fewer seconds"
        )
    notes = list(raw.notes)
    if passed_s < seconds - 2 * _LOOK_S:
        notes.append(f"ended after {passed_s:.1f} s: it was enough for the tool")
    process = {"kind": kind, "node": socket.gethostname(), "pid": os.getpid()}
    traffic, timeline = probe.traffic(passed_s).told(), probe.timeline(passed_s)
    taken = Taken(passed_s, traffic, timeline, process, raw.facts, raw.files, notes)
    return {**asdict(taken), "version": host.artifact.manifest.version}


def _made(name: str, artifact: Artifact, threads: int, seconds: float) -> Tool:
    return make(name, artifact, threads, seconds, is_live=True)


async def _until(end: float, tool: Tool, leaving: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    while (left_s := end - loop.time()) > 0 and not tool.is_enough():
        try:
            await asyncio.wait_for(leaving.wait(), min(_LOOK_S, left_s))
        except TimeoutError:
            continue
        return
