"""Who answers when the usual version refuses."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from deployments.door import LIMIT_HEADER
from deployments.overload import infer, usual_s
from deployments.served import Served
from deployments.traffic import Traffic
from headrace.errors import DeadlinePassed, EngineFailed, Overloaded, TensorRejected
from headrace.requests import InferRequest
from tests.deployments.test_served import X, asked, model, runs


@pytest.fixture
def usual() -> Served:
    return model("m", "x", "y", 1, is_cached=True)


@pytest.fixture
def cheaper() -> Served:
    return model("m", "x", "y", 2, is_cached=True, version="2")


def fails(served: Served, failure: Exception | None) -> None:
    served.backend.failure = failure  # type: ignore[union-attr]


async def answer(usual: Served, cheaper: Served | None, request: InferRequest) -> tuple[str, float]:
    served, ran = await infer(usual, cheaper, request, None)
    return served.version, float(ran.outputs["y"][0, 0])


async def test_the_usual_version_answers_as_long_as_it_can(usual: Served, cheaper: Served) -> None:
    assert await answer(usual, cheaper, asked()) == ("1", 2.0)
    assert runs(cheaper) == 0


async def test_what_it_refuses_the_cheaper_one_answers(usual: Served, cheaper: Served) -> None:
    fails(usual, Overloaded("full", 2.0))
    assert await answer(usual, cheaper, asked()) == ("2", 3.0)
    with pytest.raises(Overloaded):
        await answer(usual, None, asked())


async def test_what_takes_the_usual_version_too_long_the_cheaper_one_answers_while_there_is_time(
    usual: Served, cheaper: Served
) -> None:
    fails(usual, DeadlinePassed("such a request takes 3 s by itself"))
    now = asyncio.get_running_loop().time()
    served, _ = await infer(usual, cheaper, asked(), now + 60)
    assert served is cheaper
    with pytest.raises(DeadlinePassed):
        await infer(usual, cheaper, asked(), now)
    assert runs(cheaper) == 1


async def test_each_remembers_its_own_answers(usual: Served, cheaper: Served) -> None:
    fails(usual, Overloaded("full", 2.0))
    for _ in range(2):
        assert await answer(usual, cheaper, asked()) == ("2", 3.0)
    assert runs(cheaper) == 1
    fails(usual, None)
    assert await answer(usual, cheaper, asked()) == ("1", 2.0)


@pytest.mark.parametrize("failure", [Overloaded("full, too", 9.0), EngineFailed("broken")])
async def test_if_neither_can_the_first_refusal_stands(
    usual: Served, cheaper: Served, failure: Exception
) -> None:
    fails(usual, Overloaded("full", 2.0))
    fails(cheaper, failure)
    with pytest.raises(Overloaded) as caught:
        await answer(usual, cheaper, asked())
    assert caught.value.retry_after_s == 2.0


async def test_other_failures_are_nobody_elses_business(usual: Served, cheaper: Served) -> None:
    fails(usual, EngineFailed("broken"))
    with pytest.raises(EngineFailed):
        await answer(usual, cheaper, asked())
    with pytest.raises(TensorRejected):
        await answer(usual, cheaper, asked(X.astype(np.float64)))
    assert runs(cheaper) == 0


def test_a_door_lets_in_what_both_versions_hold_and_answer(usual: Served, cheaper: Served) -> None:
    waits = {"1": 0.2, "2": 0.05}
    for served in (usual, cheaper):
        served.backend.usual_s = lambda version=served.version: waits[version]  # type: ignore
    alone = Traffic("m", [usual], gateways=2)
    helped = Traffic("m", [cheaper, replace(usual, cheaper="2")], gateways=2)
    assert helped.cheaper(helped.answering) is cheaper
    assert alone.cheaper(alone.answering) is None
    limits = []
    for traffic in (alone, helped):
        traffic.door.came(10.0, 2.0)
        limits.append(int(traffic.door.headers(10.0)[LIMIT_HEADER]))
    assert limits == [2 * 10, 2 * 50]  # 5 and 20 + 5 a second, for two seconds
    assert (alone.door.floor, helped.door.floor) == (1, 2)


def test_two_versions_work_off_what_waits_together() -> None:
    assert usual_s(0.1, 0.1) == pytest.approx(0.05)
    assert usual_s(0.3, 0.1) == pytest.approx(0.075)
    assert usual_s(0.0, 0.1) == usual_s(0.1, 0.0) == 0.0
