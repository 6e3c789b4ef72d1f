"""How many replicas a model needs (pure: what was measured and the time are arguments).

Work is counted in seconds of one replica, which does one of them each second, whatever is asked of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

STALE_S = 15.0  # older reports tell nothing of now
_EPSILON = 1e-9  # of a replica
_SURPLUS = 0.1  # of the replicas: so many are kept, since noise would have them back


@dataclass(frozen=True, slots=True)
class Goals:
    """What the configuration asks for."""

    min_replicas: int
    max_replicas: int
    objective_s: float  # from request to answer
    utilization: float  # of the replicas' time
    down_after_s: float  # for so long fewer must have sufficed
    sleep_after_s: float  # without a request, when min_replicas is 0
    starts_at_once: int = 0  # 0: no limit


@dataclass(frozen=True, slots=True)
class Demand:
    """What is asked of one model version, as it was at a moment."""

    at: float
    offered: float  # work that arrives in a second, what was refused included
    backlog_s: float  # work that waits or runs
    oldest_s: float  # that a request has waited for its turn
    held: float = 0.0  # requests without an answer, wherever they are: one may wait for the first replica

    @property
    def is_idle(self) -> bool:
        return not (self.offered or self.backlog_s or self.held)


@dataclass(frozen=True, slots=True)
class Memory:
    """What one decision hands to the next."""

    since: float | None = None  # of when on no report is missing
    peaks: tuple[tuple[float, int], ...] = ()  # (time, replicas that were needed): later ones are smaller
    busy_at: float = -math.inf  # when there was work the last time
    asked: int = 0  # replicas
    raised_at: float = -math.inf  # when more were asked for the last time
    is_starting: bool = False  # they do not all run yet
    start_s: float = 0.0  # what a start takes; 0: not measured yet


@dataclass(frozen=True, slots=True)
class Decision:
    replicas: int
    why: str
    memory: Memory


def decide(
    now: float,
    running: int,
    target: int,
    demand: Demand | None,
    goals: Goals,
    memory: Memory,
    usual_start_s: float,
) -> Decision:
    """The number of replicas to ask for, `target` being what was asked for so far.

    More are asked for at once; fewer when fewer would have sufficed for `down_after_s`, and none when nobody
    asked for `sleep_after_s`. Without fresh reports all stays as it is. `usual_start_s` is what a start takes
    as long as none was measured.
    """
    memory = _starts_seen(now, running, target, memory)
    start_s = memory.start_s or usual_start_s
    if demand is None or now - demand.at > STALE_S:
        return Decision(target, "no fresh reports", replace(memory, since=None, peaks=()))
    wanted = needed(demand, running, target - running, now - memory.raised_at, start_s, goals)
    is_late = demand.oldest_s > goals.objective_s and running >= target
    if is_late and now - memory.raised_at >= start_s:
        wanted = max(wanted, target + 1)  # requests take more than was expected of them
    wanted = min(max(wanted, goals.min_replicas), goals.max_replicas)
    memory = _noted(now, wanted, demand, goals, memory)
    if goals.starts_at_once:
        wanted = min(wanted, max(target, running + goals.starts_at_once))
    if wanted > target:
        raised = replace(memory, asked=wanted, raised_at=now, is_starting=True)
        return Decision(wanted, "more work", raised)
    fewer = max(memory.peaks[0][1], 0 if target == 1 and _may_sleep(now, goals, memory) else 1)
    if target - fewer > _SURPLUS * target and _has_seen(now, goals.down_after_s, memory):
        return Decision(fewer, "less work", replace(memory, asked=fewer))
    return Decision(target, "enough", memory)


def needed(
    demand: Demand, running: int, starting: int, starting_s: float, start_s: float, goals: Goals
) -> int:
    """The replicas that keep up with what arrives, and work off what has queued.

    What will have queued by the time that new replicas answer is to be worked off within the objective, or
    within the time of a start where that is longer: replicas that are needed for less than they take to start
    are too dear. Those that are `starting` were asked for `starting_s` ago.
    """
    if demand.is_idle:
        return 0
    keeps_up = demand.offered / goals.utilization
    works_s = min(starting_s, start_s)  # what is starting, before a new one would
    left_s = demand.backlog_s + (demand.offered - running) * start_s - max(starting, 0) * works_s
    drains = demand.offered + max(left_s, 0.0) / max(goals.objective_s, start_s)
    return max(1, math.ceil(max(keeps_up, drains) - _EPSILON))


def _starts_seen(now: float, running: int, target: int, memory: Memory) -> Memory:
    """What a start takes is known once all that was asked for runs. Somebody else may have asked, too: Serve
    wakes a model that sleeps."""
    if memory.asked < target and running < target:
        memory = replace(memory, raised_at=now, is_starting=True)
    memory = replace(memory, asked=target)
    if not memory.is_starting or running < target:
        return memory
    return replace(memory, is_starting=False, start_s=now - memory.raised_at)


def _noted(now: float, wanted: int, demand: Demand, goals: Goals, memory: Memory) -> Memory:
    peaks = [peak for peak in memory.peaks if peak[1] > wanted and now - peak[0] <= goals.down_after_s]
    return replace(
        memory,
        since=now if memory.since is None else memory.since,
        peaks=(*peaks, (now, wanted)),
        busy_at=memory.busy_at if demand.is_idle else now,
    )


def _has_seen(now: float, seconds: float, memory: Memory) -> bool:
    return memory.since is not None and now - memory.since >= seconds


def _may_sleep(now: float, goals: Goals, memory: Memory) -> bool:
    return now - memory.busy_at >= goals.sleep_after_s and _has_seen(now, goals.sleep_after_s, memory)
