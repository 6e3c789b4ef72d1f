"""Copies of requests, their answers compared: stand-ins compute."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np

from batching.shapes import Sizes
from deployments.served import Served
from deployments.shadow import Shadow
from headrace.errors import EngineFailed, TensorRejected
from headrace.requests import LOWEST_PRIORITY, InferRequest, Ran
from monitoring.recorder import Seconds
from rollout.evidence import Slot, together
from rollout.noted import Noted
from tests.deployments.test_traffic import version

REQUEST = InferRequest("m", {"x": np.zeros(1, np.float32)}, priority=1)
ANSWER = {"y": np.float32([2.0])}


def shadowed(candidate: Served, copies: int = 1) -> Slot:
    """What is known after so many copies at once."""

    async def run() -> Slot:
        noted = Noted()
        shadow = Shadow(noted, Seconds())
        for _ in range(copies):
            shadow.copy(REQUEST, candidate, ANSWER, None, {})
        await asyncio.gather(*shadow._copies)
        await shadow.close()
        return together(slots[candidate.version] for slots in noted.since("m", 0).values())

    return asyncio.run(run())


def computing(found: float | Exception, seen: list[InferRequest] | None = None) -> Served:
    async def compute(request: InferRequest, sizes: Sizes, deadline: float | None) -> Ran:
        if seen is not None:
            seen.append(request)
        await asyncio.sleep(0.01)
        if isinstance(found, Exception):
            raise found
        return Ran({"y": np.float32([found])})

    return replace(version("2"), compute=compute)


def test_an_answer_that_is_the_same_is_no_drift() -> None:
    slot = shadowed(computing(2.0))
    assert (slot.copies, slot.compared, slot.differing, slot.copy_errors) == (1, 1, 0, 0)
    assert (slot.requests, slot.errors) == (0, 0)  # no caller asked


def test_an_answer_that_differs_is_drift() -> None:
    slot = shadowed(computing(3.0))
    assert (slot.compared, slot.differing) == (1, 1)


def test_a_copy_that_fails_counts_but_not_one_that_was_the_callers_mistake() -> None:
    slot = shadowed(computing(EngineFailed("broken")))
    assert (slot.copies, slot.copy_errors, slot.compared) == (1, 1, 0)
    slot = shadowed(computing(RuntimeError("odd")))
    assert (slot.copies, slot.copy_errors) == (1, 1)
    assert shadowed(computing(TensorRejected("wrong"))).copies == 0


def test_copies_are_bounded_and_go_last() -> None:
    seen: list[InferRequest] = []
    slot = shadowed(computing(2.0, seen), copies=50)
    assert (slot.copies, slot.copies_dropped) == (16, 34)
    assert {(request.priority, request.version) for request in seen} == {(LOWEST_PRIORITY, "2")}
