"""The Serve applications of model versions: which there are, how they are; having them started or ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from deployments.versions import APP_PREFIX, app_name
from deployments.waiting import waits
from headrace.config import Config

_log = logging.getLogger(__name__)
_WORDS = 300  # of an explanation
_WANTED = ("STARTING", "UPDATING", "RECOVERING", "RUNNING", "PENDING_MIGRATION")


@dataclass(frozen=True, slots=True)
class Health:
    """Of one application."""

    running: int  # replicas
    wanted: int  # likewise, those that are being started included
    is_ready: bool
    has_failed: bool  # and will not become ready by itself
    words: str


class Applications:
    """Those of one configuration's models."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def health(self) -> dict[str, Health]:
        """Of each application of ours, by its name. It asks the controller, which may take a while."""
        from ray import serve

        found = {}
        applications = serve.status().applications
        is_waiting = any(str(app.status.value) == "DEPLOYING" for app in applications.values())
        wanting = waits() if is_waiting else {}
        for name, app in applications.items():
            if name.startswith(APP_PREFIX):
                states = [entry.replica_states for entry in app.deployments.values()]
                status = str(app.status.value)
                found[name] = Health(
                    sum(counts.get("RUNNING", 0) for counts in states),
                    sum(counts.get(state, 0) for counts in states for state in _WANTED),
                    status == "RUNNING",
                    status == "DEPLOY_FAILED",
                    _in_words(app.message) or _waiting(wanting.get(name), status),
                )
        return found

    async def ensure(
        self, model: str, versions: Collection[str], health: Mapping[str, Health]
    ) -> dict[str, str]:
        """Start what is missing; why each version that does not answer yet does not."""
        ill = {}
        for version in versions:
            app = health.get(app_name(model, version))
            if app is None:
                await asyncio.to_thread(self._start, model, version)
                ill[version] = "its replicas are started"
            elif not app.is_ready:
                ill[version] = app.words
        return ill

    async def end_others(
        self, model: str, kept: Collection[str], used: Collection[str], health: Mapping[str, Health]
    ) -> tuple[list[str], list[str]]:
        """End the model's applications but for the versions that are kept and the applications that some
        gateway still uses: all that are not kept, and those of them that are left."""
        names = {app_name(model, version) for version in kept}
        others = [name for name in health if name.startswith(app_name(model, "")) and name not in names]
        for name in others:
            if name not in used:
                _log.warning(f"{name} is not needed any more and ends")
                await asyncio.to_thread(_end, name)
        return others, [name for name in others if name in used]

    def _start(self, model: str, version: str) -> None:
        from deployments import app

        _log.warning(f"{app_name(model, version)} starts")
        app.start_model(self._config, model, version)


def _end(name: str) -> None:
    from ray import serve

    serve.delete(name, _blocking=False)


def _waiting(what: str | None, status: str) -> str:
    return f"it waits for {what}" if what else f"its application is {status}"


def _in_words(message: str) -> str:
    """The last thing that a replica's failure says of itself, without the way it took through our code."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    told = [line for line in lines if ": " in line and not line.startswith(("File ", "Traceback"))]
    last = (told or lines or [""])[-1]
    name, _, words = last.partition(": ")
    return (words if name.startswith("headrace.errors.") else last)[:_WORDS]
