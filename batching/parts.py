"""A request of more rows than a batch holds, run in parts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import numpy as np

from batching.shapes import Sizes
from headrace.requests import Ran, Timings
from headrace.tensors import Array, TensorMap

RunPart = Callable[[Mapping[str, Array], Sizes], Awaitable[Ran]]


async def in_parts(run: RunPart, inputs: TensorMap, sizes: Sizes, most_rows: int, at_once: int) -> Ran:
    """The answer to all rows from parts of at most `most_rows`, of which `at_once` are under way."""
    rows = sizes["batch"]
    starts = iter(range(0, rows, most_rows))
    parts: dict[int, Ran] = {}

    async def run_some() -> None:
        for start in starts:
            part = {name: array[start : start + most_rows] for name, array in inputs.items()}
            parts[start] = await run(part, {**sizes, "batch": min(most_rows, rows - start)})

    runners = [asyncio.create_task(run_some()) for _ in range(at_once)]
    try:
        await asyncio.gather(*runners)
    finally:
        for task in runners:  # the first error is the request's; what still waits need not run
            task.cancel()
    return _joined([parts[start] for start in sorted(parts)])


def _joined(parts: Sequence[Ran]) -> Ran:
    """The answer to a request that ran in parts."""
    outputs = {name: np.concatenate([part.outputs[name] for part in parts]) for name in parts[0].outputs}
    timings = [part.timings for part in parts]
    return Ran(
        outputs,
        Timings(
            queued_s=timings[0].queued_s,
            ran_s=sum(entry.ran_s for entry in timings),
            batch_rows=max(entry.batch_rows for entry in timings),
            padded_s=sum(entry.padded_s for entry in timings),
            batches=tuple(batch for entry in timings for batch in entry.batches),
        ),
    )
