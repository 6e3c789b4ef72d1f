"""Drives rollouts: merges what the gateways have seen, decides, and has the decision told to all of them.

It keeps nothing that it could not learn again: states are in the repository, evidence is in the gateways for
some minutes. So it may be killed at any time; until it is back, everything stays as it is.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray.exceptions import ActorDiedError
from ray.serve.handle import DeploymentHandle

from deployments import logs, metrics
from deployments.applications import Applications, Health
from deployments.everyone import ask_all_async
from deployments.figures import Figures, Teller
from deployments.known import Known
from deployments.versions import GATEWAY_APP, app_name
from deployments.watched import Watched
from engines.artifact import Repository
from headrace.config import Config
from headrace.errors import Conflict, HeadraceError
from headrace.metrics import ROLLOUT_EVENTS
from rollout import state as states
from rollout.decide import decide
from rollout.evidence import together
from rollout.state import State
from rollout.store import Store

_log = logging.getLogger(__name__)

_LOOK_S = 0.5
_CALM_S = 2.0  # between two looks at applications that are all well: the controller has better things to do
_ANSWER_S = 3.0  # of gateways; those that take longer are asked again
_SETTLE_S = 1.0  # in which all gateways follow a change
_BEFORE_S = 240  # of the stable version's seconds before a rollout
_LOAD_S = 900.0
_ILL_S = 10.0  # without healthy replicas
_SILENT = "a gateway does not answer; the next step waits for it"


class Monitor:
    """One for all models, on the cluster."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, config: dict[str, Any]
    ) -> None:
        self._config = Config.model_validate(config)
        logs.set_up(self._config.logs, "monitor")
        self._store = Store(Path(self._config.repository))
        self._gateways = DeploymentHandle("Gateway", GATEWAY_APP)
        self._applications = Applications(self._config)
        self._known: Mapping[str, Health] = {}
        self._known_at = 0.0
        self._is_one_silent = False  # a gateway, of those that there are
        self._watched = {name: Watched(name) for name in self._config.models}
        known = Known(self._config, Repository(Path(self._config.repository)), self._why)
        teller = Teller(uuid.uuid4().hex[:12], "monitor", {})
        self._figures = Figures(self._gateways, known, teller)
        self._task = asyncio.create_task(self._watch())
        self._others = [asyncio.create_task(teller.report())]
        if self._config.monitoring:
            self._others.append(asyncio.create_task(self._figures.watch()))

    async def __del__(self) -> None:
        for task in (self._task, *self._others):
            task.cancel()

    async def check_health(self) -> None:
        """Serve starts another monitor, on another node perhaps, when this one cannot do its work."""
        if self._task.done():
            raise RuntimeError("the monitor's loop has ended")
        if not await asyncio.to_thread(Path(self._config.repository).is_dir):
            raise RuntimeError("the repository cannot be read on this node")

    async def view(self, model: str) -> dict[str, Any]:
        """What is known about a model's rollout or test."""
        return self._watched[model].view()

    async def figures(self) -> bytes:
        """The live figures of all models and processes, as JSON."""
        return await self._figures.document()

    def _why(self, model: str) -> str:
        return self._watched[model].words

    async def _watch(self) -> None:
        while True:
            try:
                await self._look()
            except Exception:  # nothing that happens to one look may end the watch
                _log.exception("the monitor could not look at the rollouts")
            await asyncio.sleep(_LOOK_S)

    async def _look(self) -> None:
        known = await asyncio.to_thread(self._read)
        active = {name: state for name, state in known.items() if state.rollout or state.trial}
        if not active and all(self._watched[name].is_settled for name in known):
            return
        since = {name: self._watched[name].begin(state, _BEFORE_S) for name, state in active.items()}
        seen = await self._ask(since)
        changing = [
            name
            for name, state in known.items()
            if not (_is_loaded(state) if name in active else self._watched[name].is_settled)
        ]
        health = await self._health(is_urgent=bool(changing))
        for name, state in known.items():
            watched = self._watched[name]
            try:
                if name in active:
                    watched.take(seen, self._running(state, health, len(seen)))
                    await self._tend(watched, state, seen, health)
                elif not watched.is_settled:
                    await self._clean_up(watched, state, seen, health)
            except HeadraceError as err:
                watched.problem = str(err)
                _log.warning(f"the rollout of {name!r} waits: {err}")

    async def _health(self, *, is_urgent: bool) -> Mapping[str, Health]:
        """Of all applications; of a moment ago, as long as nothing is being started or ended."""
        now = time.monotonic()
        is_well = bool(self._known) and all(app.is_ready for app in self._known.values())
        if is_urgent or not is_well or now - self._known_at > _CALM_S:
            self._known, self._known_at = await asyncio.to_thread(self._applications.health), now
        return self._known

    def _read(self) -> dict[str, State]:
        """The states of models that have one; a damaged one is held, as the gateways hold it."""
        found = {}
        for name, watched in self._watched.items():
            stamp = self._store.stamp(name)
            if stamp is not None and stamp != watched.stamp:
                try:
                    watched.state, watched.problem = self._store.read(name), ""
                except HeadraceError as err:
                    watched.state, watched.problem = None, str(err)
                watched.stamp, watched.is_settled = stamp, False
            if watched.state is not None:
                found[name] = watched.state
        return found

    async def _ask(self, since: Mapping[str, int]) -> list[dict[str, Any]]:
        """What each gateway tells; one that does not answer now is not in it, but may answer callers."""
        try:
            told = await ask_all_async(self._gateways, "seen", since, timeout_s=_ANSWER_S)
        except Exception as err:  # no gateway, no controller, too slow: all of these pass
            _log.warning(f"the gateways cannot be asked: {type(err).__name__}: {err}")
            return []
        failed = [one for one in told if not isinstance(one, dict)]
        self._is_one_silent = any(not isinstance(err, ActorDiedError) for err in failed)
        return [one for one in told if isinstance(one, dict)]

    def _running(self, state: State, health: Mapping[str, Health], gateways: int) -> dict[str, int]:
        """Replicas by version; those of models in gateways are the gateways."""
        apps = {version: health.get(app_name(state.model, version)) for version in state.versions}
        return {version: gateways if app is None else app.running for version, app in apps.items()}

    async def _tend(
        self, watched: Watched, state: State, seen: list[dict[str, Any]], health: Mapping[str, Health]
    ) -> None:
        """One look at a rollout or test that is under way."""
        ill = await self._applications.ensure(state.model, self._wanted(state), health)
        if why := watched.given_up(ill, health, _ILL_S if _is_loaded(state) else _LOAD_S):
            await self._change(state, lambda now: _given_up(now, why))
        elif not _is_loaded(state):
            watched.problem = "; ".join(f"version {version!r}: {why}" for version, why in ill.items())
            if not ill:
                await self._change(state, _loaded)
        elif behind := self._behind(state, seen):
            watched.problem = behind
        else:
            watched.problem = ""
            if state.rollout is not None:
                await self._decide(watched, state)
            else:
                watched.tests(state, _SETTLE_S)
        # What an earlier rollout has left may be in the way of this one.
        if not (self._is_one_silent or self._behind(state, seen)):
            await self._end_others(state, seen, health)

    def _behind(self, state: State, seen: list[dict[str, Any]]) -> str:
        """Why what the gateways see says nothing about the present split; "" if it does."""
        if not seen:
            return "no gateway answers"
        followers = [told["states"][state.model] for told in seen]
        late = [told for told in followers if told["revision"] != state.revision]
        return str(late[0]["problem"] or f"{len(late)} gateways do not follow yet") if late else ""

    async def _decide(self, watched: Watched, state: State) -> None:
        rollout = state.under_way
        assert rollout.phase != "loading"
        is_mixed = self._config.models[state.model].placement == "inline"
        evidence = watched.evidence(state, _SETTLE_S, is_mixed=is_mixed)
        decision = decide(rollout.plan, rollout.phase, evidence)
        totals = {
            state.stable: together(pair.stable for pair in evidence.windows),
            rollout.candidate: together(pair.candidate for pair in evidence.windows),
        }
        watched.decided(decision, totals)
        if rollout.paused or decision.action == "hold":
            return
        if decision.action == "advance" and self._is_one_silent:
            watched.problem = _SILENT
            return
        change = states.advance if decision.action == "advance" else states.roll_back
        figures = watched.figures(rollout.candidate)
        await self._change(state, lambda now: change(now, time.time(), decision.why, figures))

    async def _change(self, state: State, make: Callable[[State], State]) -> None:
        """Only if nobody else has changed it meanwhile: what was decided was about this state."""

        def checked(now: State) -> State:
            if now.revision != state.revision:
                raise Conflict("it was changed meanwhile")
            return make(now)

        changed = await asyncio.to_thread(self._store.change, state.model, state.stable, checked)
        event = changed.history[-1]
        _log.warning(f"model {state.model!r}, version {event.version!r}: {event.what}: {event.why}")
        metrics.count(ROLLOUT_EVENTS, (state.model, event.version, event.what))
        await tell(self._gateways)

    def _wanted(self, state: State) -> list[str]:
        """Versions that have an application of their own."""
        is_inline = self._config.models[state.model].placement == "inline"
        return [version for version in state.versions if not (is_inline and version == state.stable)]

    async def _clean_up(
        self, watched: Watched, state: State, seen: list[dict[str, Any]], health: Mapping[str, Health]
    ) -> None:
        """End the applications that no gateway needs any more, once all gateways follow."""
        if self._is_one_silent or self._behind(state, seen):
            return
        left = await self._end_others(state, seen, health)
        missing = await self._applications.ensure(state.model, self._wanted(state), health)
        watched.is_settled = not left and not missing and len(seen) >= self._config.gateways

    async def _end_others(
        self, state: State, seen: list[dict[str, Any]], health: Mapping[str, Health]
    ) -> list[str]:
        """Those that are left, since a gateway still uses them."""
        kept = {*self._wanted(state), *self._config.models[state.model].versions[:-1]}
        used = {app for told in seen for app in told["applications"]}
        others, left = await self._applications.end_others(state.model, kept, used, health)
        if others:
            self._known_at = 0.0  # they are not what they were
        return left


async def tell(gateways: DeploymentHandle) -> None:
    """Have all gateways look at the repository now. Those that do not hear it look by themselves."""
    try:
        await ask_all_async(gateways, "follow", timeout_s=_ANSWER_S)
    except Exception as err:
        _log.warning(f"the gateways cannot be told: {type(err).__name__}: {err}")


def _is_loaded(state: State) -> bool:
    under_way = state.rollout or state.trial
    return under_way is not None and under_way.phase != "loading"


def _loaded(state: State) -> State:
    if state.rollout is not None:
        return states.advance(state, time.time(), "it is loaded and warm")
    return states.begin_trial(state, time.time())


def _given_up(state: State, why: str) -> State:
    if state.rollout is not None:
        return states.roll_back(state, time.time(), why)
    return states.end_trial(state, time.time(), why)
