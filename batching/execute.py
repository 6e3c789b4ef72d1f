"""One group through the engine: stacked, run, split; a request that breaks it fails alone (blocking)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from batching.queue import Item
from batching.shapes import Sizes, elements, largest, split, stack
from headrace.errors import DeadlinePassed, EngineFailed, EngineUnavailable, HeadraceError
from headrace.tensors import Array, Signature, TensorMap

_log = logging.getLogger(__name__)
_told: set[str] = set()
_MOST_TOLD = 20

RunEngine = Callable[[TensorMap, tuple[str, ...]], dict[str, Array]]
RunEach = Callable[[Sequence[TensorMap]], Sequence[dict[str, Array]]]
# A function as it is, with its calls marked by a name for a profiler.
Mark = Callable[[str, Callable[..., Any]], Callable[..., Any]]


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch that ran: what it held and how long it took."""

    group: str  # its shape, coarse enough to be a metric's label
    rows: int
    useful: int  # elements
    elements: int  # padding included
    ran_s: float
    padded_s: float = 0.0  # of `ran_s`: stacking, padding and cutting
    span: str = ""  # as `traceparent`, where traces are on

    @property
    def fill(self) -> float:
        return self.useful / self.elements if self.elements else 1.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One request's outputs, and the batch it ran in."""

    outputs: TensorMap
    batch: Batch


Result = Answer | HeadraceError


def run_group(
    run: RunEngine,
    signature: Signature,
    items: Sequence[Item],
    clock: Callable[[], float] = time.monotonic,
    padded: Sizes | None = None,
    each: RunEach | None = None,
    mark: Mark | None = None,
) -> list[Result]:
    """An answer or an error for each of one group, run as one batch: stacked for `run`, or side by side for
    `each`, when it is given.

    Requests that nobody waits for any more are left out. When the batch fails it is halved until the
    request that breaks it runs alone: 2 log2(n) + 1 calls for one among n. The halves are `padded` as the
    whole was, so that the others get the answers they would have got. What the engine lacks (memory of its
    GPU) no single request is to blame for: then it is halved once.
    """
    now = clock()
    wanted = [item for item in items if item.is_wanted(now)]
    found: list[Result] = []
    if wanted:
        sizes = padded or wanted[0].target or largest([item.sizes for item in wanted])
        try:
            found = list(_run_together(wanted, run, signature, sizes, each, mark))
        except Exception as err:
            is_half = padded is not None
            if len(wanted) == 1 or (is_half and isinstance(err, EngineUnavailable)):
                found = [_failure(err)] * len(wanted)
            else:
                half = len(wanted) // 2
                for part in (wanted[:half], wanted[half:]):
                    found += run_group(run, signature, part, clock, sizes, each, mark)
                if padded is None and all(isinstance(result, Answer) for result in found):
                    _tell_once(f"{type(err).__name__}: {err}")
    if len(wanted) == len(items):
        return found
    by_item = dict(zip(wanted, found, strict=True))
    return [by_item.get(item) or _too_late() for item in items]


def _failure(err: Exception) -> HeadraceError:
    if isinstance(err, HeadraceError):
        return err
    _log.error("the engine raised", exc_info=err)
    failure = EngineFailed("the engine failed on this request; the server's log says why")
    failure.__cause__ = err
    return failure


def _tell_once(problem: str) -> None:
    """Nobody gets a wrong answer, but batches of this model cost more than they save."""
    if problem not in _told and len(_told) < _MOST_TOLD:
        _told.add(problem)
        _log.error(
            "a batch failed though each of its requests runs alone; if all do, set max_batch: 1 (%s)", problem
        )


def _too_late() -> DeadlinePassed:
    return DeadlinePassed("the request's timeout passed before it could run")


def _run_together(
    items: Sequence[Item],
    run: RunEngine,
    signature: Signature,
    sizes: Sizes,
    each: RunEach | None,
    mark: Mark | None,
) -> list[Answer]:
    padded, divided = (stack, split) if mark is None else (mark("stack", stack), mark("split", split))
    started = time.perf_counter()
    inputs = [item.inputs for item in items]
    engine_s: float | None = None
    if each is None:
        whole = padded(signature, inputs, sizes)
        began = time.perf_counter()
        outputs = run(whole, items[0].outputs)
        engine_s = time.perf_counter() - began
        rows_of, sizes_of = [item.rows for item in items], [item.sizes for item in items]
        parts: Sequence[TensorMap] = divided(signature, outputs, rows_of, sizes_of, sizes)
    else:
        parts = [
            {name: answer[name] for name in item.outputs or answer}
            for item, answer in zip(items, each(inputs), strict=True)
        ]
    took_s = time.perf_counter() - started
    rows = sum(item.rows for item in items)
    total = rows * elements(signature.inputs, sizes)
    useful = total
    if any(item.sizes != sizes for item in items):
        useful = sum(item.rows * elements(signature.inputs, item.sizes) for item in items)
    padded_s = 0.0 if engine_s is None else took_s - engine_s
    ran = Batch(group_label(sizes), rows, useful, total, took_s, padded_s)
    return [Answer(part, ran) for part in parts]


def group_label(sizes: Sizes) -> str:
    """The shape of a row, each size rounded up to a power of two: "length<=64"; "" when all is fixed."""
    named = [(dim, size) for dim, size in sizes.items() if dim != "batch"]
    return ",".join(f"{dim}<={1 << max(0, size - 1).bit_length()}" for dim, size in named)
