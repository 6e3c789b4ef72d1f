"""Work that requests leave behind, done a moment later on a thread: in batches, bounded, losses counted."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Background(Generic[T]):
    """Items from any thread, in batches to `work` on a thread of its own.

    Who has something to do never waits: an item that finds `most_waiting` before it is lost and counted, as
    are those of a batch on which `work` fails.
    """

    def __init__(
        self,
        work: Callable[[list[T]], None],
        *,
        name: str,
        most_waiting: int,
        most_at_once: int,
        every_s: float,
    ) -> None:
        self._work = work
        self._most_waiting = most_waiting
        self._most_at_once = min(most_at_once, most_waiting)
        self._every_s = every_s
        self._items: deque[T] = deque()
        self._due = threading.Event()
        self._is_open = True
        self._is_failing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.lost = 0  # ever

    def start(self) -> None:
        self._thread.start()

    def put(self, item: T) -> None:
        if len(self._items) >= self._most_waiting:
            self.lost += 1
            return
        self._items.append(item)
        if len(self._items) == self._most_at_once:
            self._due.set()

    def close(self, timeout_s: float = 2.0) -> None:
        """Do what is left, as far as that takes no longer."""
        self._is_open = False
        self._due.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while self._is_open:
            self._due.wait(self._every_s)
            self._due.clear()
            self._empty()
            if len(self._items) >= self._most_at_once:
                self._due.set()
        self._empty()

    def _empty(self) -> None:
        """All that is there by now, in batches."""
        left = len(self._items)
        while left > 0:
            batch = [self._items.popleft() for _ in range(min(left, self._most_at_once))]
            left -= len(batch)
            try:
                self._work(batch)
            except Exception as err:  # no batch may end the thread, which nobody would notice
                self.lost += len(batch)
                if not self._is_failing:
                    _log.warning(f"{self._thread.name} are lost: {type(err).__name__}: {err}")
                self._is_failing = True
            else:
                self._is_failing = False
            time.sleep(0)  # others may have waited for the interpreter
