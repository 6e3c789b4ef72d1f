"""One question to every replica of a deployment, by a handle.

Ray ends a process in which an object of more than 100 KB is forgotten before the callback that Serve has set
on it has run, and Serve's own broadcast forgets results as soon as they are read. So they are kept a while.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from headrace.errors import EngineUnavailable

if TYPE_CHECKING:
    from ray.serve._private.replica_result import ReplicaResult
    from ray.serve.handle import DeploymentBroadcastResponse, DeploymentHandle

# The callback runs within milliseconds of the arrival, but behind whatever else keeps the processor.
_KEPT_S = 10.0
_kept: deque[tuple[float, DeploymentBroadcastResponse]] = deque()


def ask_all(handle: DeploymentHandle, method: str, *args: Any, timeout_s: float, **kwargs: Any) -> list[Any]:
    """What each replica answers, in no order. Raises the first exception, and TimeoutError."""
    response = _kept_for_a_while(handle.broadcast(method, *args, **kwargs))
    return list(response.results(timeout_s=timeout_s))


async def ask_all_async(
    handle: DeploymentHandle, method: str, *args: Any, timeout_s: float, **kwargs: Any
) -> list[Any]:
    """What each replica answers, in no order. In place of an answer stands an exception: TimeoutError for one
    that is silent, which keeps the others' answers from nobody. Raises where nobody can be asked:
    DeploymentUnavailableError when there is no replica, TimeoutError when that cannot be found out."""
    response = _kept_for_a_while(handle.broadcast(method, *args, **kwargs))
    async with asyncio.timeout(timeout_s) as patience:
        # Serve's own way to wait for them has one deadline for all: a silent replica takes every answer.
        results = await response._fetch_replica_results_async()
        until = patience.when()
    assert until is not None
    return list(await asyncio.gather(*(_answer(result, until) for result in results)))


async def _answer(result: ReplicaResult, until: float) -> Any:
    """What it answers, or the exception that it raises; `until` is the loop's time."""
    try:
        async with asyncio.timeout_at(until):
            return await result.get_async()
    except Exception as err:
        return err
    except asyncio.CancelledError:  # there: who is stopped cancels what it was asked
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        return EngineUnavailable("it has stopped meanwhile")


def _kept_for_a_while(response: DeploymentBroadcastResponse) -> DeploymentBroadcastResponse:
    now = time.monotonic()
    while _kept and now - _kept[0][0] > _KEPT_S:
        _kept.popleft()
    _kept.append((now, response))
    return response
