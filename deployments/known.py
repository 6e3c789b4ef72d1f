"""What the monitor knows of versions from the repository, the configuration and the controller."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from deployments.applications import Applications, Health
from deployments.versions import app_name
from engines.artifact import Repository
from headrace.config import Config
from headrace.errors import HeadraceError
from monitoring.told import Replicas, Versions
from rollout.state import State
from rollout.store import Stamp, Store

_log = logging.getLogger(__name__)
_CALM_S = 10.0  # between two questions to the controller
_OLD_S = 30.0  # then what it has said is told as old
_REPORT = "report.html"


class Known:
    """Of all models and pipelines of a configuration; asked on a thread, one at a time. The controller is
    asked on another one: it may be away for long."""

    def __init__(self, config: Config, repository: Repository, why: Callable[[str], str]) -> None:
        """`why` tells in words what is decided about a model's rollout."""
        self._config = config
        self._repository = repository
        self._store = Store(repository.root)
        self._why = why
        self._applications = Applications(config)
        self._states: dict[str, tuple[Stamp, State | None]] = {}
        self._reports: dict[tuple[str, str], bool] = {}
        self._health: Mapping[str, Health] = {}
        self._health_at = self._asked_at = float("-inf")
        self._needs_health_since: float | None = None
        self._asking = ThreadPoolExecutor(1, "controller")
        self._answer: Future[dict[str, Health]] | None = None

    def versions(self) -> dict[str, Versions]:
        """By model and pipeline."""
        found: dict[str, Versions] = {name: Versions("pipeline", "", {}) for name in self._config.pipelines}
        states = {name: self._state(name) for name in self._config.models}
        self._look(
            any(entry.placement == "replicas" for entry in self._config.models.values())
            or any(state and (state.rollout or state.trial) for state in states.values())
        )
        for name, state in states.items():
            found[name] = self._of(name, state)
        return found

    def problems(self) -> list[str]:
        """What of `versions` is not up to date."""
        since = self._needs_health_since
        if since is None or time.monotonic() - max(since, self._health_at) < _OLD_S:
            return []
        return ["the controller does not answer; numbers of replicas may be old"]

    def _of(self, name: str, state: State | None) -> Versions:
        entry = self._config.models[name]
        versions = list(entry.versions or ())
        stable = versions[-1] if state is None else state.stable
        split = {stable: 1.0} if state is None else dict(state.split.shares)
        named = [*versions, *split, *(state.versions if state else ())]
        health = {version: self._health.get(app_name(name, version)) for version in named}
        rollout = state.rollout if state else None
        trial = state.trial if state else None
        running = {version: app for version, app in health.items() if app is not None}
        return Versions(
            entry.placement,
            stable,
            split,
            former=(state.former or "") if state else "",
            candidate=rollout.candidate if rollout else "",
            variants=tuple(trial.variants) if trial else (),
            rollout=None if state is None else self._rollout(state),
            replicas={version: Replicas(app.running, app.wanted) for version, app in running.items()},
            reports=frozenset(version for version in named if self._has_report(name, version)),
            named=frozenset(versions),
        )

    def _rollout(self, state: State) -> dict[str, Any] | None:
        """As the document has it."""
        rollout, trial = state.rollout, state.trial
        if rollout is not None:
            return {
                "kind": "rollout",
                "phase": rollout.phase,
                "candidate": rollout.candidate,
                "step_percent": rollout.percent,
                "state": "paused" if rollout.paused else "running",
                "words": rollout.paused or self._why(state.model),
            }
        if trial is not None:
            return {
                "kind": "test",
                "phase": trial.phase,
                "candidate": "",
                "step_percent": 0.0,
                "state": "running",
                "words": self._why(state.model),
            }
        return None

    def _state(self, name: str) -> State | None:
        """The last one that could be read."""
        stamp = self._store.stamp(name)
        known = self._states.get(name)
        if stamp is None:
            return None
        if known is None or known[0] != stamp:
            try:
                self._states[name] = stamp, self._store.read(name)
            except HeadraceError:  # the monitor and the gateways say so
                self._states[name] = stamp, known[1] if known else None
        return self._states[name][1]

    def _has_report(self, name: str, version: str) -> bool:
        key = name, version
        if key not in self._reports:  # a published version does not change
            self._reports[key] = (self._repository.root / name / version / _REPORT).is_file()
        return self._reports[key]

    def _look(self, is_needed: bool) -> None:
        """Take what the controller has said meanwhile, and ask it anew when that is due; never wait."""
        now = time.monotonic()
        if not is_needed:
            self._needs_health_since = None
            return
        if self._needs_health_since is None:
            self._needs_health_since = now
        if self._answer is not None and self._answer.done():
            answer, self._answer = self._answer, None
            if (err := answer.exception()) is None:
                self._health, self._health_at = answer.result(), now
            else:  # it is being replaced: what was known stands
                _log.warning(f"the controller cannot be asked: {type(err).__name__}: {err}")
        if self._answer is None and now - self._asked_at >= _CALM_S:
            self._asked_at = now
            self._answer = self._asking.submit(self._applications.health)
