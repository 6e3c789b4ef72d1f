"""Versions of one model in a gateway, without Ray: stand-ins compute."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from batching.seen import SizesSeen
from batching.shapes import Sizes
from deployments.door import Door
from deployments.pipelines import Step
from deployments.recorder import Recorder
from deployments.served import Served
from deployments.traffic import Traffic
from headrace.errors import NotFound
from headrace.requests import InferRequest, Ran
from headrace.tensors import Signature, TensorSpec
from rollout import state as states
from rollout.plan import Plan
from rollout.state import State

SIGNATURE = Signature((TensorSpec("x", "FP32", ("batch",)),), (TensorSpec("y", "FP32", ("batch",)),))
PLAN = Plan(steps=(25.0, 100.0))


def version(name: str) -> Served:
    async def compute(request: InferRequest, sizes: Sizes, deadline: float | None) -> Ran:
        return Ran({"y": np.float32([float(name)])})

    step = Step("m", name, name, SIGNATURE)
    return Served(step, "test", compute, None, None, Door(1, 2), SizesSeen(), Recorder())


def canary() -> State:
    return states.advance(states.start(State(model="m", stable="1"), "2", PLAN, "id", 0.0), 1.0, "")


def test_a_request_that_names_no_version_is_answered_by_the_split() -> None:
    traffic = Traffic("m", [version("1")], 1)
    traffic.ready["2"] = version("2")
    traffic.follow(canary())
    chosen = [traffic.choose(None, "").version for _ in range(1000)]
    assert abs(chosen.count("2") - 250) <= 3
    assert traffic.answering.version == "1"


def test_a_request_that_names_a_version_gets_it() -> None:
    traffic = Traffic("m", [version("1")], 1)
    traffic.ready["2"] = version("2")
    assert traffic.choose("2", "").version == "2"
    with pytest.raises(NotFound, match="no version '9'; served here: 2, 1"):
        traffic.choose("9", "")


def test_a_version_is_let_go_of_when_it_has_answered_what_it_was_asked() -> None:
    async def run() -> list[str]:
        traffic = Traffic("m", [version("1")], 1)
        served = version("2")
        told = []

        async def let_go() -> None:
            await traffic.let_go(served)
            told.append("gone")

        with traffic.using(served), traffic.using(served):
            task = asyncio.create_task(let_go())
            await asyncio.sleep(0.01)
            assert traffic.told()["ready"] == ["1", "2"]
            told.append("asked")
        await task
        assert traffic.told()["ready"] == ["1"]
        return told

    assert asyncio.run(run()) == ["asked", "gone"]


def test_what_is_told_names_the_state_that_is_followed() -> None:
    traffic = Traffic("m", [version("1")], 1)
    assert traffic.told() == {"revision": 0, "ready": ["1"], "problem": ""}
    traffic.ready["2"] = version("2")
    traffic.follow(canary())
    assert traffic.told() == {"revision": 2, "ready": ["1", "2"], "problem": ""}


def test_the_stable_version_is_listed_last() -> None:
    traffic = Traffic("m", [version("1"), version("2")], 1)
    traffic.ready["3"] = version("3")
    assert traffic.versions() == ["1", "3", "2"]
