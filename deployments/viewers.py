"""Server-sent events for the live page: one poller for all who look, and each gets the latest figures."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable

import orjson

from headrace.errors import HeadraceError, Overloaded

_log = logging.getLogger(__name__)

MOST = 64  # of one gateway
EVERY_S = 1.0
QUIET_S = 10.0  # then a comment tells whoever stands between that the connection is in use
_FRESH_S = 2.0  # figures of this age are news to who has just come
_RETRY = b"retry: 1000\n\n"  # milliseconds until a browser connects again
_COMMENT = b": nothing new\n\n"

Figures = Callable[[], Awaitable[bytes]]


class Viewers:
    """Asks for the figures once in `every_s` as long as somebody looks, never twice at a time.

    A viewer who reads slowly gets the latest figures next; those in between are left out for them.
    """

    def __init__(
        self, figures: Figures, most: int = MOST, every_s: float = EVERY_S, quiet_s: float = QUIET_S
    ) -> None:
        self._figures = figures
        self._most = most
        self._every_s = every_s
        self._quiet_s = quiet_s
        self._latest = b""  # a whole event
        self._number = 0  # of the latest
        self._at = -1.0
        self._tick = asyncio.Event()
        self._polling: asyncio.Task[None] | None = None
        self._is_failing = False
        self.num_present = 0

    async def events(self, is_ending: Callable[[], bool]) -> AsyncGenerator[bytes]:
        """Parts of a text/event-stream, until the viewer leaves or the server `is_ending`.

        Overloaded, before the first part, when as many as there may be are looking.
        """
        if self.num_present >= self._most:
            raise Overloaded(
                f"{self._most} viewers are looking at this gateway's page, which is all that it takes", 10.0
            )
        self.num_present += 1
        try:
            self._ensure_polling()
            yield _RETRY
            async for part in self._parts(is_ending):
                yield part
        finally:
            self.num_present -= 1
            if not self.num_present and self._polling is not None:
                self._polling.cancel()
                self._polling = None

    def _ensure_polling(self) -> None:
        if self._polling is None or self._polling.done():
            self._polling = asyncio.create_task(self._poll())

    async def _parts(self, is_ending: Callable[[], bool]) -> AsyncGenerator[bytes]:
        loop = asyncio.get_running_loop()
        seen = self._number if loop.time() - self._at > _FRESH_S else self._number - 1
        spoke = loop.time()
        while not is_ending():
            if self._number != seen:
                seen = self._number
                yield self._latest
            elif loop.time() - spoke >= self._quiet_s:
                self._ensure_polling()  # whatever has ended it
                yield _COMMENT
            else:
                await self._wait()
                continue
            spoke = loop.time()

    async def _wait(self) -> None:
        """For news, but not so long that the end of the server goes unnoticed."""
        try:
            async with asyncio.timeout(self._every_s):
                await self._tick.wait()
        except TimeoutError:
            pass

    async def _poll(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + self._every_s
            try:
                event = b"data: %b\n\n" % await self._figures()
                self._is_failing = False
            except Exception as err:  # the page shows what it has, and says how old that is
                if not self._is_failing:
                    _log.exception("no figures for the live page")
                self._is_failing = True
                event = _problem(err)
            if event != self._latest:
                self._latest, self._number, self._at = event, self._number + 1, loop.time()
                self._tick.set()
                self._tick = asyncio.Event()
            await asyncio.sleep(max(due - loop.time(), self._every_s / 10))


def _problem(err: Exception) -> bytes:
    """As an event of its own kind; what is none of our errors is in the log alone."""
    words = str(getattr(err, "cause", err)) if isinstance(err, HeadraceError) else "the figures cannot be had"
    return b"event: problem\ndata: %b\n\n" % orjson.dumps(words)
