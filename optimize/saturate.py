"""How many rows an engine computes when there is always more to do, batched as it is when serving."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Lock

from batching.execute import Answer, Batch, RunEngine, run_group
from batching.queue import Item, WaitingQueue
from batching.service import ServiceTime
from headrace.config import BatchingConfig
from headrace.tensors import Signature, TensorMap


@dataclass(frozen=True, slots=True)
class Ran:
    """What one engine did."""

    rows: int
    batches: int
    useful: int  # elements
    elements: int  # padding included
    seconds: float
    cpu_s: float = 0.0  # of all threads of this process


def saturate(
    run: RunEngine,
    signature: Signature,
    requests: Sequence[TensorMap],
    batching: BatchingConfig,
    waiting: int,
    until: float,
    clock: Callable[[], float] = time.monotonic,
) -> Ran:
    """Run `requests` over and over until the clock says so, `waiting` of them at a time, as many batches at
    once as there are permits; at least one batch of each.

    What the engine raises for a request is raised here.
    """
    cpu_before_s = time.process_time()
    load = _Load(run, signature, requests, batching, waiting, clock)
    started = clock()
    others = batching.permits - 1
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(others)) if others else None
        running = [pool.submit(load.go, started, until) for _ in range(others)] if pool else []
        ended = max([load.go(started, until), *(future.result() for future in running)])
    told = load.batches
    return Ran(
        rows=sum(batch.rows for batch in told),
        batches=len(told),
        useful=sum(batch.useful for batch in told),
        elements=sum(batch.elements for batch in told),
        seconds=ended - started,
        cpu_s=time.process_time() - cpu_before_s,
    )


class _Load:
    """Requests without end in one queue, from which each thread takes a group when its last one is done."""

    def __init__(
        self,
        run: RunEngine,
        signature: Signature,
        requests: Sequence[TensorMap],
        batching: BatchingConfig,
        waiting: int,
        clock: Callable[[], float],
    ) -> None:
        self._run = run
        self._signature = signature
        self._queue = WaitingQueue.of(signature, batching, batching.max_batch)
        self._service = ServiceTime()
        self._sizes = {id(inputs): signature.check(inputs) for inputs in requests}
        self._coming = itertools.cycle(requests)
        self._waiting = waiting
        self._running = 0  # requests
        self._now = 0.0  # of the thread that came last: to an older one, what that added has not come yet
        self._clock = clock
        self._lock = Lock()
        self.batches: list[Batch] = []

    def go(self, now: float, until: float) -> float:
        """When it ended."""
        while True:
            group = self._next(now)
            first = None
            for result in run_group(self._run, self._signature, group):
                if not isinstance(result, Answer):
                    raise result
                first = first or result.batch
            assert first is not None
            now = self._clock()
            with self._lock:
                self._running -= len(group)
                self._service.observe(first.elements, first.ran_s)
                self.batches.append(first)
            if now >= until:
                return now

    def _next(self, now: float) -> list[Item]:
        with self._lock:
            self._now = now = max(self._now, now)
            # One at least: with fewer requests than threads there is nothing else to take.
            more = max(self._waiting - self._running - len(self._queue), not len(self._queue))
            for inputs in itertools.islice(self._coming, more):
                found = self._sizes[id(inputs)]
                self._queue.add(Item(inputs, (), found, found.get("batch", 1), now, None, None))
            group = self._queue.next_group(
                now, max_wait_s=0.0, estimate=self._service.likely_s, weighs=self._service.can_weigh
            )
            self._running += len(group)
            return group
