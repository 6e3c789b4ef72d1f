"""All checks, in the order in which a newcomer would meet what fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from deployments import app
from deployments.doctor import (
    clock,
    engines_here,
    gpu,
    libraries,
    network,
    processor,
    ray_cluster,
    redis_server,
    repository,
    room,
    settings,
    telling,
)
from deployments.doctor.check import Check, warn
from headrace.config import Config
from headrace.errors import HeadraceError


def checks(config: Config | None) -> Iterator[tuple[str, list[Check]]]:
    """Groups of checks, each as it is done; `config` is what is to be served, where that is known."""
    pinned = None if config is None else _pinned(config)
    groups: list[tuple[str, Callable[[], Iterator[Check]]]] = [
        ("Python and libraries", libraries.checks),
        ("Engines", engines_here.checks),
        ("Processor", lambda: processor.checks(pinned)),
        ("GPU", lambda: gpu.checks(config)),
        ("Room", lambda: room.checks(pinned)),
        ("Environment", settings.checks),
        ("Ports", lambda: network.checks(config)),
        ("Ray", ray_cluster.checks),
        ("Cache", lambda: redis_server.checks(config)),
        ("Clock", clock.checks),
        ("Traces and logs", lambda: telling.checks(config)),
    ]
    if config is not None:
        groups.append(("Repository", lambda: repository.checks(config)))
    for name, look in groups:
        yield name, list(_guarded(name, look))


def _guarded(name: str, look: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """A look that fails says so, and the others go on."""
    try:
        yield from look()
    except Exception as err:
        yield warn(
            name, f"could not be looked at: {type(err).__name__}: {err}", "the other checks still hold"
        )


def _pinned(config: Config) -> Config | None:
    """None where the repository lacks what is to be served: its own check says so."""
    try:
        return app.pinned(config)
    except (HeadraceError, OSError):
        return None
