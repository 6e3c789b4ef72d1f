"""Gateways and replicas as far as requests see them: what waits where, in which packs and batches (pure).

A request waits in a gateway, travels in a pack, of which two are under way for each gateway and replica,
waits there for the engine's next batch, and is answered together with its pack.
"""

from __future__ import annotations

import math
import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np

from autoscaling.offered import Offered
from autoscaling.reports import Cost, GatewayReport, ReplicaReport
from autoscaling.trace import Trace
from headrace.errors import CallerError

_CALLS = 2  # packs under way for each gateway and replica, and batches in each (deployments.running)
_FADING = 0.9  # of earlier batches and calls

_DRAWN = 16  # replicas that are looked at for one call (deployments.routing)

Act = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Served:
    """The model, and what stands before it."""

    batch_s: tuple[tuple[int, float], ...]  # (rows, seconds) of batches, as measured
    max_batch: int = 8
    permits: int = 1
    gateways: int = 1
    max_queue: int = 2048  # requests, in all gateways together
    timeout_s: float | None = None  # of a request
    hop_s: float = 0.004  # of a request, all around its batch
    report_s: float = 0.5  # between a replica's reports

    def __post_init__(self) -> None:
        if not self.batch_s or any(rows < 1 or seconds <= 0 for rows, seconds in self.batch_s):
            raise CallerError("a batch has at least 1 row, and takes more than 0 s")

    def seconds(self, rows: int) -> float:
        """Of a batch: between measured ones on a line, beyond them by the fitted one. What does not fit into
        one runs in parts."""
        if rows > self.max_batch:
            parts, rest = divmod(rows, self.max_batch)
            return parts * self.seconds(self.max_batch) + (self.seconds(rest) if rest else 0.0)
        table = sorted(self.batch_s)
        if table[0][0] <= rows <= table[-1][0]:
            known, seconds = zip(*table, strict=True)
            return float(np.interp(rows, known, seconds))
        base_s, row_s = self.line()
        return base_s + rows * row_s

    def line(self) -> tuple[float, float]:
        """Seconds of a batch and of each of its rows, by least squares; neither is below 0."""
        rows, seconds = (np.array(column, float) for column in zip(*self.batch_s, strict=True))
        if rows.min() < rows.max():
            row_s, base_s = np.polyfit(rows, seconds, 1)
            if row_s < 0:
                return float(seconds.mean()), 0.0
            if base_s > 0:
                return float(base_s), float(row_s)
        return 0.0, float(seconds @ rows / (rows @ rows))

    def cost(self) -> Cost:
        """As it is known before any batch has run."""
        return Cost(*self.line(), float(self.max_batch), permits=float(self.permits))


@dataclass(slots=True, eq=False)
class _Gateway:
    waiting: deque[int] = field(default_factory=deque)
    rows: int = 0
    calls: int = 0  # under way
    to: Counter[Replica] = field(default_factory=Counter)  # of these: it knows of no other gateway's
    held: int = 0  # requests, those under way included
    call_s: float = 0.0  # that a call takes
    offered: Offered = field(default_factory=Offered)


@dataclass(slots=True, eq=False)
class _Pack:
    gateway: _Gateway
    sent_at: float
    requests: list[int]
    left: int  # that are not done


@dataclass(slots=True, eq=False)
class Replica:
    """One that runs, or finishes what it holds."""

    free: int  # permits
    full_rows: float  # of batches that leave others behind
    calls: int = 0
    rows: int = 0  # that wait
    line: deque[tuple[float, int, _Pack]] = field(default_factory=deque)  # since when, which request
    ends: dict[int, float] = field(default_factory=dict)  # of the batches that run


class Traffic:
    """All requests of a trace. `at` has something done later; `on_idle` hears of replicas that have answered
    all they held."""

    def __init__(
        self,
        trace: Trace,
        served: Served,
        at: Callable[[float, Act], None],
        on_idle: Callable[[Replica, float], None],
        seed: int,
    ) -> None:
        count = len(trace.times)
        self._served, self._at, self._on_idle = served, at, on_idle
        self._times: list[float] = trace.times.tolist()
        self._rows: list[int] = trace.rows.tolist() if len(trace.rows) else [1] * count
        self._timeout_s = math.inf if served.timeout_s is None else served.timeout_s
        self._base_s, self._row_s = served.line()
        self._batch_s = [served.seconds(rows) for rows in range(1, served.max_batch + 1)]
        self._random = random.Random(seed)  # noqa: S311 - drawn again for the same seed
        self._gateways = [_Gateway() for _ in range(served.gateways)]
        self._stranded: list[_Pack] = []  # while there is no replica
        self._came = 0
        self.next_at = self._times[0] if count else math.inf  # of the next arrival
        self._batches = 0
        self.running: list[Replica] = []
        self.latency = [math.nan] * count  # NaN: refused, or not answered yet
        self.left = count  # requests that are neither answered nor refused
        self.held = 0  # requests that wait or run
        self.busy_s = 0.0

    @property
    def queue_rows(self) -> int:
        """That wait, in gateways, under way or in replicas."""
        stranded = sum(self._rows[request] for pack in self._stranded for request in pack.requests)
        waiting = sum(gateway.rows for gateway in self._gateways)
        return stranded + waiting + sum(replica.rows for replica in self.running)

    def of_gateways(self, now: float) -> list[GatewayReport]:
        """What they report."""
        reports = []
        for gateway in self._gateways:
            oldest_s = now - self._times[gateway.waiting[0]] if gateway.waiting else 0.0
            rows, held = float(gateway.rows), float(gateway.held)
            reports.append(GatewayReport(now, *gateway.offered.per_second(now), rows, rows, held, oldest_s))
        return reports

    def of_replicas(self, now: float) -> list[ReplicaReport]:
        """One report stands for all, since the sums and maxima that are made of theirs are the same."""
        if not self.running:
            return []
        work_s = oldest_s = 0.0
        for replica in self.running:
            work_s += replica.rows * (self._base_s / replica.full_rows + self._row_s)
            work_s += sum(replica.ends.values()) - now * len(replica.ends)
            if replica.line:
                oldest_s = max(oldest_s, now - replica.line[0][0])
        permits = self._served.permits
        full_rows = fmean(replica.full_rows for replica in self.running)
        costs = self._base_s, self._row_s, full_rows, 1.0, float(permits)
        return [ReplicaReport(now, work_s / permits, oldest_s, *costs, loaded_s=0.0)]

    def join(self, now: float) -> Replica:
        """One more that answers. What waits in gateways reaches it with the next call only."""
        replica = Replica(self._served.permits, float(self._served.max_batch))
        self.running.append(replica)
        stranded, self._stranded = self._stranded, []
        for pack in stranded:
            self._deliver(pack, self._choose(pack.gateway), now)
        return replica

    def leave(self) -> Replica:
        """The latest gets no more calls, and finishes what it has."""
        return self.running.pop()

    def arrive(self, now: float) -> None:
        """The next request of the trace."""
        request = self._came
        self._came += 1
        self.next_at = self._times[self._came] if self._came < len(self._times) else math.inf
        gateway = self._gateways[request % len(self._gateways)]
        rows = self._rows[request]
        gateway.offered.came(now, rows, rows)
        if self._is_refused(gateway):
            self.left -= 1
            return
        gateway.waiting.append(request)
        gateway.rows += rows
        gateway.held += 1
        self.held += 1
        self._pump(gateway, now)

    def _is_refused(self, gateway: _Gateway) -> bool:
        if gateway.held >= -(-self._served.max_queue // len(self._gateways)):
            return True
        if self._timeout_s == math.inf:
            return False
        at_once = 2 * self._served.max_batch * self._max_calls()
        return math.ceil(len(gateway.waiting) / at_once) * gateway.call_s > self._timeout_s

    def _max_calls(self) -> int:
        return max(1, _CALLS * len(self.running))

    def _pump(self, gateway: _Gateway, now: float) -> None:
        while gateway.waiting and gateway.calls < self._max_calls():
            requests = [gateway.waiting.popleft()]
            rows = self._rows[requests[0]]
            while (
                gateway.waiting and rows + self._rows[gateway.waiting[0]] <= _CALLS * self._served.max_batch
            ):
                rows += self._rows[gateway.waiting[0]]
                requests.append(gateway.waiting.popleft())
            gateway.rows -= rows
            gateway.calls += 1
            pack = _Pack(gateway, now, requests, len(requests))
            if self.running:
                self._deliver(pack, self._choose(gateway), now)
            else:
                self._stranded.append(pack)

    def _choose(self, gateway: _Gateway) -> Replica:
        """The least busy one of those that are drawn, as far as this gateway knows."""
        drawn = self._random.sample(self.running, min(_DRAWN, len(self.running)))
        return min(drawn, key=lambda replica: gateway.to.get(replica, 0))

    def _deliver(self, pack: _Pack, replica: Replica, now: float) -> None:
        replica.calls += 1
        pack.gateway.to[replica] += 1
        for request in pack.requests:
            replica.line.append((now, request, pack))
            replica.rows += self._rows[request]
            if replica.free:  # a free engine takes the first of them alone
                self._begin(replica, now)

    def _begin(self, replica: Replica, now: float) -> None:
        batch, rows = self._next_batch(replica, now)
        if not batch:
            return
        if replica.line:
            replica.full_rows = _FADING * replica.full_rows + (1 - _FADING) * rows
        seconds = self._batch_s[rows - 1] if rows <= len(self._batch_s) else self._served.seconds(rows)
        replica.free -= 1
        self.busy_s += seconds / self._served.permits
        self._batches += 1
        number = self._batches
        replica.ends[number] = now + seconds
        self._at(now + seconds, lambda end: self._end(replica, number, batch, end))

    def _next_batch(self, replica: Replica, now: float) -> tuple[list[tuple[int, _Pack]], int]:
        """As large as fits and as is a gain to all who wait, as in batching.queue."""
        batch: list[tuple[int, _Pack]] = []
        line, total = replica.line, 0
        while line:
            _, request, pack = line[0]
            rows = self._rows[request]
            if batch:
                behind_s = self._base_s * len(line) / self._served.permits
                is_a_gain = not self._base_s or behind_s >= self._row_s * rows * len(batch)
                if total + rows > self._served.max_batch or not is_a_gain:
                    break
            line.popleft()
            replica.rows -= rows
            if now + self._base_s + rows * self._row_s > self._times[request] + self._timeout_s:
                self._done(request, pack, replica, now)  # it could only be late
                continue
            batch.append((request, pack))
            total += rows
        return batch, total

    def _end(self, replica: Replica, number: int, batch: Sequence[tuple[int, _Pack]], now: float) -> None:
        del replica.ends[number]
        replica.free += 1
        if replica.line:
            self._begin(replica, now)
        for request, pack in batch:
            self.latency[request] = 0.0
            self._done(request, pack, replica, now)

    def _done(self, request: int, pack: _Pack, replica: Replica, now: float) -> None:
        pack.left -= 1
        if pack.left:
            return
        gateway, count = pack.gateway, len(pack.requests)
        for each in pack.requests:
            seconds = now + self._served.hop_s - self._times[each]
            is_answered = self.latency[each] == 0.0 and seconds <= self._timeout_s
            self.latency[each] = seconds if is_answered else math.nan
        took_s = now - pack.sent_at
        gateway.call_s += (took_s - gateway.call_s) * ((1 - _FADING) if gateway.call_s else 1.0)
        gateway.calls -= 1
        gateway.to[replica] -= 1
        if not gateway.to[replica]:
            del gateway.to[replica]
        gateway.held -= count
        self.held -= count
        self.left -= count
        replica.calls -= 1
        if not replica.calls:
            self._on_idle(replica, now)
        self._pump(gateway, now)
