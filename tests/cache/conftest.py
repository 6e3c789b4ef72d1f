"""One real server for all tests, extra ones for tests that break theirs, and a clock that stands still."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cache.embedded import EmbeddedServer


@dataclass
class StillClock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder with a path short enough for a socket below it."""
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    server = EmbeddedServer(max_mib=32)
    yield server.start()
    server.stop()


@pytest.fixture
def own_server() -> Iterator[EmbeddedServer]:
    """A server that the test may stop, kill or reconfigure."""
    with EmbeddedServer(max_mib=16) as server:
        yield server
