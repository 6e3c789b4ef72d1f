"""A trace of requests replayed against a model of what is served: what a policy makes of it, in seconds of
computing instead of hours of machines (pure; time is that of the trace).

Policies are asked as Serve asks them, and see reports as late as those come. A replica counts from the moment
it is asked for until its process is gone, as in a cluster's bill.
"""

from __future__ import annotations

import heapq
import math

import numpy as np

from autoscaling.contenders import Fixed, Policy, View
from autoscaling.outcome import Outcome, Second, by_second
from autoscaling.policy import Goals
from autoscaling.starts import Starting, Starts
from autoscaling.trace import Trace
from autoscaling.traffic import Act, Replica, Served, Traffic
from headrace.errors import CallerError

_TICKS = 10  # a second: Serve's control loop
_REPORT = 5  # ticks between a gateway's reports; one is told when the next is made (deployments.autoscale)
_MOST_S = 10_000_000.0


def simulate(
    trace: Trace, served: Served, starts: Starts, goals: Goals, policy: Policy, name: str = "", seed: int = 0
) -> Outcome:
    """What becomes of the trace's requests; `seed` draws the replicas that packs go to."""
    if trace.seconds > _MOST_S:
        raise CallerError(f"the trace lasts {trace.seconds:.0f} s; at most {_MOST_S:.0f}: replay it faster")
    return _Run(trace, served, starts, goals, policy, seed).outcome(name)


class _Run:
    """The state of one run."""

    def __init__(
        self, trace: Trace, served: Served, starts: Starts, goals: Goals, policy: Policy, seed: int
    ) -> None:
        self._trace, self._goals, self._policy, self._stop_s = trace, goals, policy, starts.stop_s
        self._agenda: list[tuple[float, int, Act]] = []
        self._numbers = 0
        self._traffic = Traffic(trace, served, self._at, self._idle, seed)
        self._gateways = self._gateways_told = self._traffic.of_gateways(0.0)
        self._replicas = self._replicas_told = self._traffic.of_replicas(0.0)
        self._report = max(1, round(served.report_s * _TICKS))
        self._starting = Starting(starts)
        self._ready_at = math.inf  # the next one
        self._stopping: dict[Replica, float] = {}  # until when at least
        self._replica_s = self._running_s = 0.0  # until the time below
        self._counted_at = 0.0
        self._history: list[tuple[int, int, int, int]] = []
        first = policy.count if isinstance(policy, Fixed) else max(1, goals.min_replicas)
        self._targets = [first]
        for _ in range(first):
            self._traffic.join(0.0)

    def outcome(self, name: str) -> Outcome:
        ticks = self._all()
        end = ticks / _TICKS
        self._count(end)
        times = self._trace.times
        latency = np.array(self._traffic.latency)
        per_second = by_second(times, latency, len(self._history))
        seconds = [
            Second(arrivals, *state, p99_s)
            for (arrivals, p99_s), state in zip(per_second, self._history, strict=True)
        ]
        return Outcome(
            name,
            self._goals.objective_s,
            latency,
            seconds,
            self._replica_s,
            self._running_s,
            self._traffic.busy_s,
            self._targets,
        )

    def _all(self) -> int:
        """The ticks until the trace has ended and all is answered."""
        traffic, ticks = self._traffic, 0
        while traffic.left or ticks <= self._trace.seconds * _TICKS:
            tick = ticks / _TICKS
            event = self._agenda[0][0] if self._agenda else math.inf
            due = min(event, self._ready_at, tick)
            if traffic.next_at <= due:
                traffic.arrive(traffic.next_at)
            elif event == due:
                now, _, act = heapq.heappop(self._agenda)
                act(now)
            elif self._ready_at == due:
                self._ready(due)
            else:
                self._tick(tick, ticks)
                ticks += 1
        return ticks

    def _at(self, when: float, act: Act) -> None:
        self._numbers += 1
        heapq.heappush(self._agenda, (when, self._numbers, act))

    def _tick(self, now: float, ticks: int) -> None:
        traffic = self._traffic
        if ticks % _REPORT == 0:
            self._gateways_told, self._gateways = self._gateways, traffic.of_gateways(now)
        if ticks % self._report == 0:
            self._replicas_told, self._replicas = self._replicas, traffic.of_replicas(now)
        if ticks % _TICKS == 0:
            counts = len(traffic.running), len(self._starting), len(self._stopping)
            self._history.append((traffic.queue_rows, *counts))
        running, target = len(traffic.running), self._targets[-1]
        wanted = self._policy.replicas(
            View(now, running, target, self._gateways_told, self._replicas_told, traffic.held)
        )
        if not running and traffic.held:
            wanted = max(wanted, target, 1)  # Serve wakes what sleeps, whatever the policy is
        if not isinstance(self._policy, Fixed):
            wanted = min(max(wanted, self._goals.min_replicas), self._goals.max_replicas)
        if wanted != target:
            self._targets.append(wanted)
            self._scale(wanted, now)

    def _scale(self, wanted: int, now: float) -> None:
        self._count(now)
        there = len(self._traffic.running) + len(self._starting)
        for _ in range(there, wanted):
            self._starting.begin(now)
        for _ in range(wanted, there):
            if self._starting:
                self._starting.cancel(now)
            else:
                self._stop(now)
        self._ready_at = self._starting.next_at()

    def _ready(self, now: float) -> None:
        self._count(now)
        self._starting.end(now)
        self._traffic.join(now)
        self._ready_at = self._starting.next_at()

    def _stop(self, now: float) -> None:
        replica = self._traffic.leave()
        self._stopping[replica] = due = now + self._stop_s
        self._at(due, lambda then: self._idle(replica, then))

    def _idle(self, replica: Replica, now: float) -> None:
        """It may be gone, once it was told to stop, had the time for it and holds nothing."""
        if now >= self._stopping.get(replica, math.inf) and not replica.calls:
            self._count(now)
            del self._stopping[replica]

    def _count(self, now: float) -> None:
        """Add up the time until now, before the number of replicas changes."""
        seconds = now - self._counted_at
        running = len(self._traffic.running)
        self._running_s += seconds * running
        self._replica_s += seconds * (running + len(self._starting) + len(self._stopping))
        self._counted_at = now
