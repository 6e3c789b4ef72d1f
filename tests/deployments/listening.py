"""An application under a real uvicorn, with real connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from uvicorn import Config
from uvicorn.protocols.http import httptools_impl
from uvicorn.server import ServerState

from deployments import cycle

App = Callable[[Any, Any, Any], Awaitable[None]]


@asynccontextmanager
async def listening(
    app: App, wrapped: Callable[[Any], Any] = lambda transport: transport
) -> AsyncIterator[int]:
    """The port on which it answers, with our cycles; a connection's transport is as `wrapped` gives it."""
    before = httptools_impl.RequestResponseCycle
    cycle.install()
    config = Config(app, lifespan="off", access_log=False, log_config=None)
    config.load()

    class Protocol(httptools_impl.HttpToolsProtocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(wrapped(transport))

    server = await asyncio.get_running_loop().create_server(
        lambda: Protocol(config, ServerState(), {}), "127.0.0.1", 0
    )
    try:
        async with server:
            yield server.sockets[0].getsockname()[1]
    finally:
        httptools_impl.RequestResponseCycle = before  # type: ignore[misc]
