"""The threads that an engine's calls run on, and the way there and back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from typing import Any

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What a call may return that has more to do once its result is on its way."""

    result: Any
    go_on: Callable[[], None]


class EngineThreads:
    """Threads that take calls in turn and give their results to the event loop.

    An executor does the same with a lock, a condition and a second future for each call: on this path, which
    every request takes, that is a tenth of all that Python does for one.
    """

    def __init__(self, count: int, begin: Callable[[], object] = lambda: None) -> None:
        """`begin` is called on each of the threads before anything else."""
        self._begin = begin
        self._calls: SimpleQueue[tuple[asyncio.Future[Any], Callable[..., Any], tuple[Any, ...]] | None]
        self._calls = SimpleQueue()
        # Daemons: a call that never returns must not keep the process from ending.
        self._threads = [Thread(target=self._work, name=f"engine_{n}", daemon=True) for n in range(count)]
        for thread in self._threads:
            thread.start()

    def call(self, function: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """What `function` returns or raises on one of the threads; of `Unfinished`, its result."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._calls.put((future, function, args))
        return future

    def close(self) -> None:
        """Let the threads end after the calls that were made."""
        for _ in self._threads:
            self._calls.put(None)

    def _work(self) -> None:
        self._begin()
        while (call := self._calls.get()) is not None:
            future, function, args = call
            result: Any = None
            failure: BaseException | None = None
            go_on: Callable[[], None] | None = None
            try:
                result = function(*args)
            except BaseException as err:
                failure = err
            if isinstance(result, Unfinished):
                result, go_on = result.result, result.go_on
            loop = future.get_loop()
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits
                loop.call_soon_threadsafe(_settle, future, result, failure)
            del call, future, function, args, result, failure  # nothing that waits holds on to tensors
            try:
                if go_on is not None:
                    go_on()
            except Exception:
                if not loop.is_closed():
                    _log.exception("the thread of an engine could not go on")
            go_on = None


def _settle(future: asyncio.Future[Any], result: Any, failure: BaseException | None) -> None:
    if future.done():  # its caller has left
        return
    if failure is None:
        future.set_result(result)
    else:
        future.set_exception(failure)
