"""What can be asked of rollouts and tests, by command, by handle and over HTTP."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import orjson
from pydantic import ValidationError
from ray.serve.handle import DeploymentHandle

from deployments.setup import instances_of, setup_of
from deployments.versions import MONITOR_APP, chosen_versions
from engines.artifact import Repository
from engines.cpu import cpu_cores
from headrace.config import Config
from headrace.errors import CallerError, Conflict, HeadraceError, NotFound
from headrace.tensors import Signature, TensorSpec
from rollout import state as states
from rollout.guards import parse_guards
from rollout.plan import Plan
from rollout.state import State
from rollout.store import Store

_VIEW_S = 2.0
_LONGEST = 500
_MOST_SHOWN = 20  # events of the history in a status


class Control:
    """Checks what is asked, changes the state in the repository, and has it told to all gateways."""

    def __init__(self, config: Config, repository: Repository, tell: Callable[[], Awaitable[None]]) -> None:
        self._config = config
        self._repository = repository
        self._store = Store(repository.root)
        self._tell = tell
        self._actions: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
            "status": self._status,
            "history": self._history,
            "start": self._start,
            "pause": partial(self._change, states.pause, "paused by hand"),
            "resume": partial(self._change, states.resume, "resumed by hand"),
            "promote": partial(self._change, states.promote, "promoted by hand"),
            "rollback": self._roll_back,
            "test": self._test,
            "end": self._end,
        }

    async def act(self, action: str, model: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The state of a model's versions after `action`. CallerError or Conflict says what is wrong with it;
        then nothing has changed."""
        if action not in self._actions:
            raise CallerError(f"no action {action[:40]!r}; there are: {', '.join(self._actions)}")
        if model in self._config.pipelines:
            steps = ", ".join(self._config.pipelines[model].steps)
            raise CallerError(f"{model!r} is a pipeline; its steps have rollouts of their own: {steps}")
        if model not in self._config.models:
            raise NotFound(f"no model {model[:64]!r}; served here: {', '.join(sorted(self._config.models))}")
        try:
            return await self._actions[action](model, **arguments)
        except TypeError as err:  # arguments that the action does not take, or lacks
            if "argument" not in str(err):
                raise
            told = str(err).partition("() ")[2] or str(err)
            raise CallerError(f"{action}: {told}") from err

    async def _status(self, model: str) -> dict[str, Any]:
        state, problem = await asyncio.to_thread(self._read, model)
        return self._told(state, problem) | {"seen": await _view(model)}

    async def _history(self, model: str) -> dict[str, Any]:
        state = await asyncio.to_thread(self._store.read, model)
        events = () if state is None else state.history
        return {"model": model, "events": [event.model_dump(mode="json") for event in events]}

    async def _start(self, model: str, to: str, **plan: Any) -> dict[str, Any]:
        _text(to=to)
        made = self._plan(model, plan)

        def start(state: State) -> State:
            self._check(model, state.stable, to)
            return states.start(state, to, made, uuid.uuid4().hex[:12], time.time())

        return await self._changed(model, start)

    async def _roll_back(self, model: str, why: str = "rolled back by hand") -> dict[str, Any]:
        """Without a rollout under way: back to the version that was the stable one before."""
        _text(why=why)

        def back(state: State) -> State:
            now = time.time()
            if state.rollout is not None:
                return states.roll_back(state, now, why)
            if state.former is None:
                raise Conflict(f"no rollout of {model!r} is under way, and there was no other version before")
            self._check(model, state.stable, state.former)
            plan = Plan(steps=(100.0,), interval_s=1, guards=(), min_sample=1, soak_s=0)
            return states.start(state, state.former, plan, uuid.uuid4().hex[:12], now)

        return await self._changed(model, back)

    async def _test(self, model: str, variants: Mapping[str, float]) -> dict[str, Any]:
        if not isinstance(variants, Mapping) or not all(
            isinstance(v, int | float) for v in variants.values()
        ):
            raise CallerError('variants must be percents by version, such as {"1": 50, "3": 50}')

        def start(state: State) -> State:
            for version in variants:
                if version != state.stable:
                    self._check(model, state.stable, version)
            return states.start_trial(state, variants, uuid.uuid4().hex[:12], time.time())

        return await self._changed(model, start)

    async def _end(self, model: str, keep: str | None = None, why: str = "ended by hand") -> dict[str, Any]:
        _text(keep=keep or "", why=why)
        return await self._changed(model, lambda state: states.end_trial(state, time.time(), why, keep))

    async def _change(
        self, make: Callable[[State, float, str], State], usual: str, model: str, why: str = ""
    ) -> dict[str, Any]:
        _text(why=why)
        return await self._changed(model, lambda state: make(state, time.time(), why or usual))

    async def _changed(self, model: str, make: Callable[[State], State]) -> dict[str, Any]:
        default = await asyncio.to_thread(self._default, model)
        state = await asyncio.to_thread(self._store.change, model, default, make)
        await self._tell()
        return self._told(state, "")

    def _default(self, model: str) -> str:
        return chosen_versions(self._repository, model, self._config.models[model])[-1]

    def _read(self, model: str) -> tuple[State, str]:
        try:
            state, problem = self._store.read(model), ""
        except HeadraceError as err:
            state, problem = self._store.previous(model), str(err)
        return state or State(model=model, stable=self._default(model)), problem

    def _plan(self, model: str, given: Mapping[str, Any]) -> Plan:
        try:
            plan = Plan.model_validate_json(orjson.dumps(dict(given)))
        except ValidationError as err:
            problem = err.errors(include_url=False)[0]
            where = ".".join(map(str, problem["loc"]))
            told = str(problem["msg"]).removeprefix("Value error, ")
            raise CallerError(f"{where}: {told}; got {problem['input']!r}" if where else told) from err
        feedback = self._config.models[model].feedback
        parse_guards(plan.guards, is_shadowed=plan.shadow > 0, has_feedback=feedback is not None)
        return plan

    def _check(self, model: str, stable: str, candidate: str) -> None:
        """NotFound or Conflict when a version could not answer what the stable one does. Its files are
        compared with their digests here; its replicas do so again."""
        entry = self._config.models[model]
        former = self._repository.manifest(model, stable)
        if candidate not in (there := self._repository.versions(model)):
            raise NotFound(
                f"model {model!r} has no version {candidate[:64]!r}; there are: {', '.join(there)}"
            )
        try:
            manifest = self._repository.open(model, candidate).manifest
            setup_of(entry, manifest, instances_of(self._config, entry), cpu_cores())
        except HeadraceError as err:
            raise Conflict(f"version {candidate!r} of {model!r} cannot be served: {err}") from err
        if problem := unlike(former.signature, manifest.signature):
            raise Conflict(
                f"version {candidate!r} of {model!r} does not take and give what version {stable!r} does: "
                f"{problem}; publish it as another model"
            )

    def _told(self, state: State, problem: str) -> dict[str, Any]:
        document = state.model_dump(mode="json")
        document["history"] = document["history"][-_MOST_SHOWN:]
        return document | {"split": dict(state.split.shares), "problem": problem}


def _text(**arguments: object) -> None:
    for name, value in arguments.items():
        if not isinstance(value, str) or len(value) > _LONGEST:
            raise CallerError(f"{name} must be a text of at most {_LONGEST} characters")


def unlike(stable: Signature, candidate: Signature) -> str:
    """In what a candidate falls short of what callers of the stable version send and read; "": in nothing."""
    for kind, mine, its in (
        ("input", stable.inputs, candidate.inputs),
        ("output", stable.outputs, candidate.outputs),
    ):
        known, given = {spec.name: spec for spec in mine}, {spec.name: spec for spec in its}
        if known.keys() != given.keys():
            return f"its {kind}s are {sorted(given)}, not {sorted(known)}"
        for name, spec in known.items():
            if problem := _unlike(spec, given[name], is_input=kind == "input"):
                return f"{kind} {name!r} {problem}"
    for dim, limit in candidate.limits.items():
        if limit < stable.limits.get(dim, limit + 1):
            told = stable.limits.get(dim, "any size")
            return f"dimension {dim!r} may be {limit} at most, not {told}"
    return ""


def _unlike(stable: TensorSpec, candidate: TensorSpec, *, is_input: bool) -> str:
    if (stable.dtype, stable.shape) != (candidate.dtype, candidate.shape):
        return f"is {candidate.dtype} {list(candidate.shape)}, not {stable.dtype} {list(stable.shape)}"
    if is_input and candidate.low is not None and (stable.low is None or stable.low < candidate.low):
        return f"may be {candidate.low} at least, not {stable.low}"
    if is_input and candidate.high is not None and (stable.high is None or stable.high > candidate.high):
        return f"may be {candidate.high} at most, not {stable.high}"
    return ""


async def _view(model: str) -> dict[str, Any] | None:
    """What the monitor has seen; None when it does not answer now."""
    try:
        handle = DeploymentHandle("Monitor", MONITOR_APP)
        async with asyncio.timeout(_VIEW_S):
            view: dict[str, Any] = await handle.view.remote(model)
            return view
    except Exception:  # whatever it is, the state itself is known
        return None
