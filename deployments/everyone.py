"""One question to every replica of a deployment, by a handle.

Ray ends a process in which an object of more than 100 KB is forgotten before the callback that Serve has set
on it has run, and Serve's own broadcast forgets results as soon as they are read. So they are kept a while.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    """What each replica answers, in no order; an exception stands in place of its answer."""
    response = _kept_for_a_while(handle.broadcast(method, *args, **kwargs))
    return list(await response.results_async(timeout_s=timeout_s, return_exceptions=True))


def _kept_for_a_while(response: DeploymentBroadcastResponse) -> DeploymentBroadcastResponse:
    now = time.monotonic()
    while _kept and now - _kept[0][0] > _KEPT_S:
        _kept.popleft()
    _kept.append((now, response))
    return response
