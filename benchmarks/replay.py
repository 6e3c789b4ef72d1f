"""A trace of requests sent to a real server, whose replicas are counted: what a simulation must agree with.

Replicas count from being asked for until their process is gone, whatever state Serve has them in.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise

from autoscaling.outcome import Outcome, Second, by_second
from deployments.open_loop import OpenLoad, open_loop_at
from headrace.tensors import Array

_EVERY_S = 0.2  # between two looks
_COMING = ("STARTING", "PENDING_INITIALIZATION", "RECOVERING", "UPDATING", "PENDING_ALLOCATION")


@dataclass(frozen=True, slots=True)
class Look:
    """The replicas at a moment, in seconds since the watch began."""

    at: float
    running: int
    starting: int
    stopping: int

    @property
    def wanted(self) -> int:
        return self.running + self.starting

    @property
    def total(self) -> int:
        return self.running + self.starting + self.stopping


@dataclass(slots=True)
class Watch:
    """Looks at one deployment, from a thread of its own."""

    looks: list[Look] = field(default_factory=list)
    began: float = field(default_factory=time.perf_counter)

    def since(self, start: float) -> Watch:
        """What was seen from so many seconds after the beginning on, counted from then."""
        before = [look for look in self.looks if look.at <= start][-1:]
        after = [look for look in self.looks if look.at > start]
        looks = [
            Look(max(0.0, look.at - start), look.running, look.starting, look.stopping)
            for look in before + after
        ]
        return Watch(looks, self.began + start)

    def replica_s(self, end: float) -> float:
        """Seconds of all replicas together until `end`, each look holding until the next."""
        return _integral(self.looks, [look.total for look in self.looks], end)

    def stop_s(self) -> float:
        """How long stops took, on average; NaN when there was none."""
        stopped = sum(
            max(0, after.stopping - before.stopping, before.wanted - after.wanted)
            for before, after in pairwise(self.looks)
        )
        seconds = _integral(self.looks, [look.stopping for look in self.looks], self.looks[-1].at)
        return seconds / stopped if stopped else float("nan")

    def running_s(self, end: float) -> float:
        return _integral(self.looks, [look.running for look in self.looks], end)

    def at(self, moment: float) -> Look:
        """The last look before."""
        return next((look for look in reversed(self.looks) if look.at <= moment), self.looks[0])

    def starts(self) -> list[tuple[float, float]]:
        """When starts began and how long they took: the first that began is the first to be ready. What was
        given up or never became ready does not count."""
        began: deque[float] = deque()
        found: list[tuple[float, float]] = []
        last = self.looks[0]
        for look in self.looks[1:]:
            ready = max(0, look.running - last.running)
            came = max(0, look.starting - last.starting + ready)
            began.extend([look.at] * came)
            done = [began.popleft() for _ in range(min(ready, len(began)))]
            found += [(at, look.at - at) for at in done]
            while len(began) > look.starting:
                began.pop()
            last = look
        return found


def _integral(looks: Sequence[Look], counts: Sequence[int], end: float) -> float:
    ends = [*(look.at for look in looks[1:]), end]
    return sum(
        count * max(0.0, min(after, end) - look.at)
        for look, count, after in zip(looks, counts, ends, strict=True)
    )


@contextmanager
def watching(application: str, deployment: str = "Model") -> Iterator[Watch]:
    """Look at a deployment of the connected cluster until the block ends."""
    from ray import serve

    watch = Watch()
    stop = threading.Event()

    def look() -> None:
        while True:
            states = serve.status().applications[application].deployments[deployment].replica_states
            counts = {str(getattr(state, "value", state)): count for state, count in states.items()}
            watch.looks.append(
                Look(
                    time.perf_counter() - watch.began,
                    counts.get("RUNNING", 0),
                    sum(counts.get(state, 0) for state in _COMING),
                    counts.get("STOPPING", 0),
                )
            )
            if stop.wait(_EVERY_S):
                return

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        stop.set()
        thread.join()


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came back, and the replicas since the first request could leave."""

    load: OpenLoad
    watch: Watch

    @property
    def seconds(self) -> float:
        """Until the last answer."""
        return float((self.load.intended + self.load.latency).max())

    def outcome(self, name: str, objective_s: float, busy_s: float = 0.0) -> Outcome:
        """In the words of a simulation; nobody knows here what waits."""
        latency = self.load.latency.copy()
        latency[self.load.status != 200] = float("nan")
        count = int(self.seconds) + 1
        looks = [self.watch.at(float(second)) for second in range(count)]
        seconds = [
            Second(arrivals, 0, look.running, look.starting, look.stopping, p99_s)
            for (arrivals, p99_s), look in zip(
                by_second(self.load.intended, latency, count), looks, strict=True
            )
        ]
        targets = _changes([look.wanted for look in self.watch.looks])
        return Outcome(
            name,
            objective_s,
            latency,
            seconds,
            self.watch.replica_s(self.seconds),
            self.watch.running_s(self.seconds),
            busy_s,
            targets,
        )


def replayed(host: str, port: int, application: str, requests: Sequence[bytes], times: Array) -> Replayed:
    """Send each request at its time, and watch the replicas of the application meanwhile."""
    with watching(application) as watch:
        while not watch.looks:
            time.sleep(0.01)
        start = time.perf_counter() - watch.began
        load = asyncio.run(open_loop_at(host, port, requests, times, max_outstanding=100_000))
    return Replayed(load, watch.since(start))


def _changes(counts: Sequence[int]) -> list[int]:
    found: list[int] = []
    for count in counts:
        if not found or count != found[-1]:
            found.append(count)
    return found
