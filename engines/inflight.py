"""Several batches in flight on one thread: while one computes, the next is uploaded and the one before comes
back.

Whatever belongs to a GPU is made, used and freed on one thread, since its context is that thread's.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, Protocol, TypeVar

from headrace.errors import EngineFailed, EngineUnavailable

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
_LOOK_S = 1e-4  # between two looks whether the oldest is done, while a new one may come


class Work(Protocol[R_co]):
    """A batch: `start` hands it to the GPU and returns at once."""

    def start(self) -> None: ...

    def is_done(self) -> bool: ...

    def finish(self) -> R_co:
        """Wait for it; what it gives."""
        ...


class InFlight(Generic[R]):
    """Works in their order, at most `depth` of them started and not finished.

    `begin` and `end` are called on the thread, before its first work and after its last one. A work that
    fails fails alone. `close` finishes what was submitted.
    """

    def __init__(self, depth: int, begin: Callable[[], None], end: Callable[[], None]) -> None:
        self._depth = depth
        self._begin = begin
        self._end = end
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Work[R], Future[R]]] = deque()
        self._running: deque[tuple[Work[R], Future[R]]] = deque()  # on the thread alone
        self._is_open = True
        self._begun: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="gpu", daemon=True)

    def start(self) -> None:
        """Raises what `begin` raises."""
        self._thread.start()
        self._begun.result()

    def submit(self, work: Work[R]) -> Future[R]:
        """EngineUnavailable once it is closed."""
        future: Future[R] = Future()
        with self._changed:
            if not self._is_open:
                raise EngineUnavailable("the engine is closed")
            self._waiting.append((work, future))
            self._changed.notify()
        return future

    def close(self) -> None:
        with self._changed:
            self._is_open = False
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            self._begin()
        except BaseException as err:
            self._begun.set_exception(err)
            return
        self._begun.set_result(None)
        try:
            while self._step():
                pass
        finally:
            self._give_up()
            self._end()

    def _give_up(self) -> None:
        """Nobody may wait for a thread that has ended; in order it leaves nothing."""
        with self._changed:
            self._is_open = False
            left = [*self._running, *self._waiting]
            self._running.clear()
            self._waiting.clear()
        for _, future in left:
            if not future.done():
                future.set_exception(EngineFailed("the GPU's thread has ended"))

    def _step(self) -> bool:
        """Start one, or finish one, or wait; False when nothing will come any more."""
        with self._changed:
            has_room = len(self._running) < self._depth
            if not (self._waiting and has_room):
                if not self._running:
                    if not self._is_open:
                        return False
                    self._changed.wait()
                    return True
                # Where there is room the next one is to start as soon as it comes, so nothing blocks here.
                if has_room and self._is_open and not _is_done(self._running[0][0]):
                    self._changed.wait(_LOOK_S)
                    return True
            entry = self._waiting.popleft() if self._waiting and has_room else None
        if entry is None:
            self._finish(*self._running.popleft())
        else:
            self._start(*entry)
        return True

    def _start(self, work: Work[R], future: Future[R]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            work.start()
        except BaseException as err:
            future.set_exception(err)
        else:
            self._running.append((work, future))

    def _finish(self, work: Work[R], future: Future[R]) -> None:
        try:
            result = work.finish()
        except BaseException as err:
            future.set_exception(err)
        else:
            future.set_result(result)


def _is_done(work: Work[R]) -> bool:
    """One that has failed is: `finish` tells of it."""
    try:
        return work.is_done()
    except Exception:
        return True
