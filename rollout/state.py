"""Which version of a model answers, and what is under way: the document rollout.json and its changes (pure).

loading -> [shadow] -> canary 1% -> 5% -> ... -> soak at 100% -> the candidate is the stable version
   `-----------`------------`---------------------`------------> rolled back: the stable version has it all
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from headrace.config import Name
from headrace.errors import ArtifactRejected, CallerError, Conflict
from rollout.plan import Percent, Plan
from rollout.split import Split, whole

FILE = "rollout.json"
PREVIOUS = "rollout.previous.json"  # the state before the last change
_MOST_EVENTS = 200
_MOST_VARIANTS = 8
_KEEP = ConfigDict(extra="forbid", frozen=True, strict=True)

Step = Literal["loading", "shadow", "canary", "soak"]
What = Literal[
    "started", "advanced", "held", "paused", "resumed", "promoted", "rolled_back", "finished",
    "test_started", "test_ended",
]  # fmt: skip


class Event(BaseModel):
    model_config = _KEEP

    at: str  # UTC, ISO 8601
    what: What
    version: Name
    percent: float  # of requests that this version gets from now on
    why: str = ""
    figures: Mapping[str, FiniteFloat] = {}  # what was seen until now


class Rollout(BaseModel):
    """A candidate on its way."""

    model_config = _KEEP

    id: str
    candidate: Name
    plan: Plan
    phase: Step = "loading"
    step: int = Field(default=0, ge=0)  # of the plan's, in phase "canary"
    began: float  # Unix time
    since: float  # likewise, of this phase or step
    paused: str = ""  # why

    @model_validator(mode="after")
    def _step_is_there(self) -> Rollout:
        if self.step >= len(self.plan.steps):
            raise ValueError(f"step {self.step} of {len(self.plan.steps)}")
        return self

    @property
    def percent(self) -> float:
        """Of requests that the candidate answers."""
        match self.phase:
            case "canary":
                return self.plan.steps[self.step]
            case "soak":
                return 100.0
        return 0.0


class Trial(BaseModel):
    """Variants side by side, for as long as the user wants; the first is the baseline."""

    model_config = _KEEP

    id: str
    variants: Mapping[Name, Percent] = Field(min_length=2, max_length=_MOST_VARIANTS)
    phase: Literal["loading", "running"] = "loading"
    began: float
    since: float

    @model_validator(mode="after")
    def _shares_are_whole(self) -> Trial:
        if abs(sum(self.variants.values()) - 100) > 1e-6:
            raise ValueError(f"shares add up to {sum(self.variants.values()):g} percent; they must make 100")
        return self


class State(BaseModel):
    """`revision` grows with each change."""

    model_config = _KEEP

    format: Literal[1] = 1
    model: Name
    revision: int = Field(default=0, ge=0)
    stable: Name
    former: Name | None = None  # the stable version before this one
    rollout: Rollout | None = None
    trial: Trial | None = None
    history: Annotated[tuple[Event, ...], Field(max_length=_MOST_EVENTS)] = ()

    @model_validator(mode="after")
    def _one_at_a_time(self) -> State:
        if self.rollout and self.trial:
            raise ValueError("a rollout and a test at the same time")
        if self.rollout and self.rollout.candidate == self.stable:
            raise ValueError("the candidate is the stable version")
        return self

    @property
    def split(self) -> Split:
        """Who answers."""
        if self.trial and self.trial.phase == "running":
            shares = {version: percent / 100 for version, percent in self.trial.variants.items()}
            return Split(shares, self.trial.id)
        if self.rollout is None:
            return whole(self.stable)
        rollout, share = self.rollout, self.rollout.percent / 100
        if share >= 1:
            return whole(rollout.candidate)
        if share > 0:
            return Split({rollout.candidate: share, self.stable: 1 - share}, rollout.id)
        if rollout.phase == "shadow":
            return Split({self.stable: 1.0}, rollout.id, (rollout.candidate, rollout.plan.shadow / 100))
        return whole(self.stable)

    @property
    def versions(self) -> tuple[str, ...]:
        """All that must run: the stable one first."""
        others = [self.rollout.candidate] if self.rollout else list(self.trial.variants) if self.trial else []
        return tuple(dict.fromkeys([self.stable, *others]))

    @property
    def under_way(self) -> Rollout:
        """Conflict when there is none."""
        if self.rollout is None:
            raise Conflict(f"no rollout of {self.model!r} is under way; version {self.stable!r} answers")
        return self.rollout


def dump(state: State) -> bytes:
    """What goes into the file: the state, and the digest by which damage is found."""
    document = state.model_dump(mode="json")
    return json.dumps({"sha256": _digest(document), "state": document}, indent=2).encode()


def parse(data: bytes, model: str) -> State:
    """The state that a file holds; ArtifactRejected when it is damaged or another model's."""
    try:
        document = json.loads(data)
        if _digest(document["state"]) != document["sha256"]:
            raise ValueError("its SHA-256 differs from what it says")
        state = State.model_validate_json(json.dumps(document["state"]))
        if state.model != model:
            raise ValueError(f"it is that of model {state.model!r}")
    except (ValueError, KeyError, TypeError, RecursionError) as err:
        raise ArtifactRejected(f"{FILE} of model {model!r} is damaged: {_explain(err)}") from err
    return state


def start(state: State, candidate: str, plan: Plan, id_: str, now: float) -> State:
    """A rollout begins; Conflict when one runs, or a test."""
    if candidate == state.stable:
        raise Conflict(f"version {candidate!r} of {state.model!r} answers already")
    _refuse_second(state)
    rollout = Rollout(id=id_, candidate=candidate, plan=plan, began=now, since=now)
    return _changed(state, now, "started", candidate, 0.0, _told(plan), rollout=rollout)


def advance(state: State, now: float, why: str, figures: Mapping[str, float] | None = None) -> State:
    """To the next phase or step; after the soak the candidate is the stable version."""
    rollout = state.under_way
    phase, step = _next(rollout)
    if phase is None:
        return _finished(state, now, why, figures)
    moved = _moved(rollout, now, phase, step)
    return _changed(state, now, "advanced", rollout.candidate, moved.percent, why, figures, rollout=moved)


def promote(state: State, now: float, why: str) -> State:
    """All requests to the candidate at once; from the soak on, the end of it."""
    rollout = state.under_way
    if rollout.phase == "loading":
        raise Conflict(f"version {rollout.candidate!r} of {state.model!r} is not loaded yet; try again later")
    if rollout.phase == "soak":
        return _finished(state, now, why, None)
    moved = _moved(rollout, now, "soak", len(rollout.plan.steps) - 1)
    return _changed(state, now, "promoted", rollout.candidate, 100.0, why, rollout=moved)


def pause(state: State, now: float, why: str) -> State:
    """Shares stay as they are, and no guard is acted upon, until `resume`."""
    rollout = state.under_way
    if rollout.paused:
        raise Conflict(f"the rollout of {state.model!r} is paused already")
    moved = rollout.model_copy(update={"paused": why or "paused"})
    return _changed(state, now, "paused", rollout.candidate, rollout.percent, why, rollout=moved)


def resume(state: State, now: float, why: str) -> State:
    """The step begins anew."""
    rollout = state.under_way
    if not rollout.paused:
        raise Conflict(f"the rollout of {state.model!r} is not paused")
    moved = rollout.model_copy(update={"paused": "", "since": now})
    return _changed(state, now, "resumed", rollout.candidate, rollout.percent, why, rollout=moved)


def roll_back(state: State, now: float, why: str, figures: Mapping[str, float] | None = None) -> State:
    """All requests to the stable version."""
    candidate = state.under_way.candidate
    return _changed(state, now, "rolled_back", candidate, 0.0, why, figures, rollout=None)


def start_trial(state: State, variants: Mapping[str, float], id_: str, now: float) -> State:
    """A test begins; CallerError for shares that do not fit, Conflict when something runs already."""
    _refuse_second(state)
    if state.stable not in variants:
        raise CallerError(f"version {state.stable!r} answers now and must be one of the variants")
    ordered = {state.stable: variants[state.stable], **variants}
    try:
        trial = Trial(id=id_, variants=ordered, began=now, since=now)
    except ValidationError as err:
        raise CallerError(_explain(err)) from err
    told = ", ".join(f"{version} {percent:g}%" for version, percent in ordered.items())
    return _changed(state, now, "test_started", state.stable, variants[state.stable], told, trial=trial)


def begin_trial(state: State, now: float) -> State:
    """All variants are loaded: from now on each gets its share."""
    if state.trial is None:
        raise Conflict(f"no test of {state.model!r} is under way")
    trial = state.trial.model_copy(update={"phase": "running", "since": now})
    return state.model_copy(update={"revision": state.revision + 1, "trial": trial})


def end_trial(state: State, now: float, why: str, keep: str | None = None) -> State:
    """All requests to the stable version, or to the variant that is to become it."""
    if state.trial is None:
        raise Conflict(f"no test of {state.model!r} is under way")
    kept = keep or state.stable
    if kept not in state.trial.variants:
        raise CallerError(
            f"version {kept!r} is no variant of this test; they are: {', '.join(state.trial.variants)}"
        )
    former = state.former if kept == state.stable else state.stable
    return _changed(state, now, "test_ended", kept, 100.0, why, trial=None, stable=kept, former=former)


def _next(rollout: Rollout) -> tuple[Step | None, int]:
    """The phase and step after this one; None after the last."""
    steps = rollout.plan.steps
    match rollout.phase:
        case "loading" if rollout.plan.shadow:
            return "shadow", 0
        case "loading" | "shadow":
            step = 0
        case "canary":
            step = rollout.step + 1
        case "soak":
            return None, rollout.step
    return "soak" if step == len(steps) - 1 else "canary", step


def _moved(rollout: Rollout, now: float, phase: Step, step: int) -> Rollout:
    return rollout.model_copy(update={"phase": phase, "step": step, "since": now, "paused": ""})


def _finished(state: State, now: float, why: str, figures: Mapping[str, float] | None) -> State:
    candidate = state.under_way.candidate
    ended = {"rollout": None, "stable": candidate, "former": state.stable}
    return _changed(state, now, "finished", candidate, 100.0, why, figures, **ended)


def _changed(
    state: State,
    now: float,
    what: What,
    version: str,
    percent: float,
    why: str,
    figures: Mapping[str, float] | None = None,
    **parts: Any,
) -> State:
    at = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")
    event = Event(at=at, what=what, version=version, percent=percent, why=why, figures=figures or {})
    history = (*state.history, event)[-_MOST_EVENTS:]
    return state.model_copy(update={**parts, "revision": state.revision + 1, "history": history})


def _refuse_second(state: State) -> None:
    if state.rollout is not None:
        raise Conflict(
            f"a rollout of {state.model!r} to version {state.rollout.candidate!r} is under way "
            f"({state.rollout.percent:g}%): wait for its end, promote it or roll it back"
        )
    if state.trial is not None:
        raise Conflict(
            f"a test of {state.model!r} is under way ({', '.join(state.trial.variants)}): end it first"
        )


def _told(plan: Plan) -> str:
    steps = ",".join(f"{step:g}" for step in plan.steps)
    shadow = f"shadow {plan.shadow:g}%, " if plan.shadow else ""
    return f"{shadow}steps {steps}; guards {', '.join(plan.guards) or 'none'}"


def _digest(document: object) -> str:
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _explain(err: Exception) -> str:
    if isinstance(err, ValidationError):
        problem = err.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, problem["loc"]))
        return f"{where}: {problem['msg']}" if where else str(problem["msg"]).removeprefix("Value error, ")
    return str(err) if type(err) is ValueError else f"it is not what Headrace writes ({type(err).__name__})"
