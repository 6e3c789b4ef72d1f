"""Policies that can be compared: ours, the one that Ray Serve comes with, and a fixed number (pure).

Serve's, as of Ray 2.60: the requests that wait or run, averaged over the look-back period, divided by what a
replica is to have; followed once that has been more, or less, than there are for as long as the delay.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Protocol

from autoscaling.policy import Goals, Memory, decide
from autoscaling.reports import Cost, GatewayReport, ReplicaReport, cost_of, demand_of
from headrace.errors import ConfigRejected

_RECORDS = 0.2  # of the look-back period lies between two points of Serve's
_EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class View:
    """What a policy knows when it is asked."""

    now: float
    running: int
    target: int
    gateways: Sequence[GatewayReport]  # as they have come in
    replicas: Sequence[ReplicaReport]
    ongoing: int  # requests that wait or run, right now


class Policy(Protocol):
    def replicas(self, view: View) -> int:
        """How many there should be; the bounds are applied afterwards."""
        ...


class Headrace:
    """The very policy that is served with, which decides every so many seconds."""

    def __init__(self, goals: Goals, known: Cost, usual_start_s: float, every_s: float = 0.0) -> None:
        self._goals = goals
        self._cost = known
        self._usual_start_s = usual_start_s
        self._every_s = every_s
        self._next_at = 0.0
        self._memory = Memory()

    def replicas(self, view: View) -> int:
        if view.now + _EPSILON < self._next_at:
            return view.target
        self._next_at = view.now + self._every_s
        self._cost = cost_of(view.replicas, self._cost)
        demand = demand_of(view.gateways, view.replicas, self._cost)
        found = decide(
            view.now, view.running, view.target, demand, self._goals, self._memory, self._usual_start_s
        )
        self._memory = found.memory
        return found.replicas


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """Serve's, by the names they have on our command line, with its defaults."""

    target: float = 2.0  # requests that wait or run, for each replica
    up: float = 30.0  # seconds that more must have been wanted for
    down: float = 600.0
    look_back: float = 30.0  # seconds that are averaged over
    interval: float = 10.0  # seconds between reports


@dataclass(slots=True)
class ServeDefault:
    """Serve's own policy, with its factors at 1."""

    settings: ServeSettings = field(default_factory=ServeSettings)
    _points: deque[tuple[float, int]] = field(default_factory=deque)
    _told: list[tuple[float, int]] = field(default_factory=list)  # that have reached the controller
    _record_at: float = 0.0
    _tell_at: float = 0.0
    _way: int = 0  # 1: more are wanted, -1: fewer
    _since: float = 0.0

    def replicas(self, view: View) -> int:
        self._note(view)
        mean = self._mean(view.now)
        if view.running == 0:
            self._way = 0
            return view.target
        wanted = math.ceil(mean / self.settings.target - _EPSILON)
        way = (wanted > view.target) - (wanted < view.target)
        if way != self._way:
            self._way, self._since = way, view.now
        delay_s = self.settings.up if way > 0 else self.settings.down
        if not way or view.now - self._since + _EPSILON < delay_s:
            return view.target
        self._way = 0
        return max(wanted, 0 if view.target == 1 else 1)

    def _note(self, view: View) -> None:
        interval_s = self.settings.interval
        if view.now + _EPSILON >= self._record_at:
            self._points.append((view.now, view.ongoing))
            self._record_at = view.now + min(_RECORDS * self.settings.look_back, interval_s)
            while self._points[0][0] < view.now - self.settings.look_back:
                self._points.popleft()
        if view.now + _EPSILON >= self._tell_at:
            self._told = list(self._points)
            self._tell_at = view.now + interval_s

    def _mean(self, now: float) -> float:
        """By time: each point holds until the next, the last one until now."""
        ends = [at for at, _ in self._told[1:]] + [now]
        total = sum(count * (end - at) for (at, count), end in zip(self._told, ends, strict=True))
        seconds = now - self._told[0][0]
        return total / seconds if seconds > 0 else float(self._told[-1][1])


@dataclass(frozen=True, slots=True)
class Fixed:
    """Always as many."""

    count: int

    def replicas(self, view: View) -> int:
        return self.count


@dataclass(frozen=True, slots=True)
class Settings:
    """What policies are made from."""

    goals: Goals
    known: Cost
    start_s: float  # what a start usually takes
    every_s: float = 0.0  # between two decisions of ours


def make_policy(text: str, settings: Settings) -> Policy:
    """A policy by its name and settings: "headrace", "headrace:utilization=0.5", "serve:target=8,up=0",
    "fixed:4". ConfigRejected says what there is."""
    name, _, given = text.partition(":")
    if name not in _MAKERS:
        near = get_close_matches(name, _MAKERS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigRejected(f"unknown policy {name!r}; there are: {', '.join(_MAKERS)}{hint}")
    return _MAKERS[name](given, settings)


def _headrace(given: str, settings: Settings) -> Policy:
    goals = settings.goals
    names = ["objective_s", "utilization", "down_after_s", "sleep_after_s"]
    values = _values("headrace", given, names)
    if values.get("utilization", 1.0) > 1:
        raise ConfigRejected(f"policy headrace: utilization is {values['utilization']:g}; at most 1")
    changed = {entry.name: values.get(entry.name, getattr(goals, entry.name)) for entry in fields(goals)}
    return Headrace(Goals(**changed), settings.known, settings.start_s, settings.every_s)


def _serve(given: str, _: Settings) -> Policy:
    values = _values("serve", given, [entry.name for entry in fields(ServeSettings)], may_be_0=("up", "down"))
    return ServeDefault(ServeSettings(**values))


def _fixed(given: str, _: Settings) -> Policy:
    if not given.isdecimal() or not 1 <= int(given) <= 10_000:
        raise ConfigRejected(f"policy fixed: {given!r} is no number of replicas; 1 to 10000, as in fixed:4")
    return Fixed(int(given))


_MAKERS: Mapping[str, Callable[[str, Settings], Policy]] = {
    "headrace": _headrace,
    "serve": _serve,
    "fixed": _fixed,
}


def _values(policy: str, given: str, names: Sequence[str], may_be_0: Sequence[str] = ()) -> dict[str, float]:
    """Settings written as name=number,name=number."""
    found: dict[str, float] = {}
    for part in filter(None, given.split(",")):
        name, _, text = part.partition("=")
        if name not in names:
            near = get_close_matches(name, names, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigRejected(
                f"policy {policy} has no setting {name!r}; there are: {', '.join(names)}{hint}"
            )
        try:
            value = float(text)
        except ValueError as err:
            raise ConfigRejected(f"policy {policy}: {name} is {text!r}, which is no number") from err
        if not (math.isfinite(value) and (value > 0 or (value == 0 and name in may_be_0))):
            least = "at least 0" if name in may_be_0 else "above 0"
            raise ConfigRejected(f"policy {policy}: {name} is {text}; it must be {least}, and finite")
        found[name] = value
    return found
