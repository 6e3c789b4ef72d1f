"""How many rows an engine computes when there is always more to do, batched as it is when serving."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from batching.execute import Answer, RunEngine, run_group
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
    """Run `requests` over and over until the clock says so, `waiting` of them at a time; at least one batch.

    What the engine raises for a request is raised here.
    """
    queue = WaitingQueue.of(signature, batching, batching.max_batch)
    service = ServiceTime()
    sizes = {id(inputs): signature.check(inputs) for inputs in requests}
    coming = itertools.cycle(requests)
    rows = batches = useful = elements = 0
    cpu_before_s = time.process_time()
    started = now = clock()
    while not batches or now < until:
        for inputs in itertools.islice(coming, waiting - len(queue)):
            found = sizes[id(inputs)]
            queue.add(Item(inputs, (), found, found.get("batch", 1), now, None, None))
        group = queue.next_group(now, max_wait_s=0.0, estimate=service.likely_s, weighs=service.can_weigh)
        first = None
        for result in run_group(run, signature, group):
            if not isinstance(result, Answer):
                raise result
            first = first or result.batch
        assert first is not None
        service.observe(first.elements, first.ran_s)
        rows, batches = rows + first.rows, batches + 1
        useful, elements = useful + first.useful, elements + first.elements
        now = clock()
    return Ran(rows, batches, useful, elements, now - started, time.process_time() - cpu_before_s)
