"""Feedback over several gateways: each answer is judged where it was given."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from deployments.feedback import Feedback, Found
from headrace.config import FeedbackConfig
from headrace.errors import Conflict, EngineUnavailable, NotFound, Overloaded
from headrace.requests import InferRequest, InferResponse, Truth, Verdict
from headrace.tensors import Signature, TensorSpec

SIGNATURE = Signature((), (TensorSpec("y", "FP32", ("batch", 3)),))
CLASS_1 = {"y": np.array([[0.0, 1.0, 0.0]], np.float32)}


class Gateways:
    """So many, who ask one another."""

    def __init__(self, count: int) -> None:
        self.judged: list[tuple[str, str, float]] = []
        self.questions: list[int] = []
        self.failure: Exception | None = None
        ask = self.ask if count > 1 else None
        config = {"m": FeedbackConfig(output="y")}
        self.all = [Feedback(config, lambda *told: self.judged.append(told), ask) for _ in range(count)]

    async def ask(self, model: str, tenant: str, truths: list[Truth]) -> Sequence[Sequence[Found]]:
        self.questions.append(len(truths))
        await asyncio.sleep(0.01)
        if self.failure is not None:
            raise self.failure
        return [gateway.judge_here(model, tenant, truths) for gateway in self.all]

    def answer(self, number: int, request_id: str, tenant: str = "") -> None:
        request = InferRequest("m", {}, id=request_id, tenant=tenant)
        self.all[number].note(request, InferResponse("m", "2", CLASS_1, request_id), SIGNATURE)


async def test_an_answer_is_judged_here_and_counted() -> None:
    gateways = Gateways(1)
    gateways.answer(0, "a")
    assert await gateways.all[0].judge("m", "", [Truth("a", 1)]) == [Verdict("2", 1.0)]
    assert gateways.judged == [("m", "2", 1.0)]


async def test_an_answer_of_another_gateway_is_judged_and_counted_there() -> None:
    gateways = Gateways(3)
    gateways.answer(2, "a")
    assert await gateways.all[0].judge("m", "", [Truth("a", 0)]) == [Verdict("2", 0.0)]
    assert gateways.judged == [("m", "2", 0.0)]
    for gateway in gateways.all:
        (again,) = await gateway.judge("m", "", [Truth("a", 1)])
        assert isinstance(again, Conflict)
    assert len(gateways.judged) == 1


async def test_what_nobody_knows_is_told_with_how_long_answers_are_kept() -> None:
    for count in (1, 2):
        (found,) = await Gateways(count).all[0].judge("m", "", [Truth("a", 1)])
        assert isinstance(found, NotFound)
        assert "keep 10000 answers for 3600 s" in str(found)


async def test_tenants_judge_their_own_answers() -> None:
    gateways = Gateways(2)
    gateways.answer(0, "a", tenant="acme")
    (found,) = await gateways.all[0].judge("m", "other", [Truth("a", 1)])
    assert isinstance(found, NotFound)
    assert await gateways.all[1].judge("m", "acme", [Truth("a", 1)]) == [Verdict("2", 1.0)]


async def test_what_comes_while_others_are_asked_goes_with_the_next_question() -> None:
    gateways = Gateways(2)
    for number in range(2500):
        gateways.answer(1, str(number))
    told = await asyncio.gather(
        *(gateways.all[0].judge("m", "", [Truth(str(number), 1)]) for number in range(2500))
    )
    assert all(found == [Verdict("2", 1.0)] for found in told)
    assert gateways.questions == [1000, 1000, 500]


async def test_gateways_that_cannot_be_asked_are_told_of_and_asked_again() -> None:
    gateways = Gateways(2)
    gateways.answer(1, "a")
    gateways.failure = ConnectionError("gone")
    (found,) = await gateways.all[0].judge("m", "", [Truth("a", 1)])
    assert isinstance(found, EngineUnavailable)
    gateways.failure = None
    assert await gateways.all[0].judge("m", "", [Truth("a", 1)]) == [Verdict("2", 1.0)]


async def test_too_much_feedback_for_others_is_refused() -> None:
    gateways = Gateways(2)
    told = await gateways.all[0].judge("m", "", [Truth("a", 1)] * 10_001)
    assert isinstance(told[-1], Overloaded)
    assert isinstance(told[0], NotFound)


async def test_only_models_with_feedback_remember_and_name_requests() -> None:
    feedback = Gateways(1).all[0]
    with pytest.raises(NotFound, match="takes no feedback"):
        await feedback.judge("other", "", [Truth("a", 1)])
    request = InferRequest("other", {})
    assert feedback.named(request) is request
    feedback.note(request, InferResponse("other", "1", CLASS_1), SIGNATURE)
    assert feedback.named(InferRequest("m", {}, id="mine")).id == "mine"
    ids = {feedback.named(InferRequest("m", {})).id for _ in range(100)}
    assert (len(ids), all(ids)) == (100, True)
