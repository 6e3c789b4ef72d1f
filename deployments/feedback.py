"""Feedback in a gateway: answers are judged where they were given, wherever their truth is told."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from ray.serve.handle import DeploymentHandle

from deployments.everyone import ask_all_async
from deployments.versions import GATEWAY_APP
from headrace.config import FeedbackConfig
from headrace.errors import EngineUnavailable, HeadraceError, NotFound, Overloaded
from headrace.requests import InferRequest, InferResponse, Truth, Verdict
from headrace.tensors import Signature
from rollout.feedback import Answers

_log = logging.getLogger(__name__)

ID_HEADER = "headrace-request-id"
_MOST_WAITING = 10_000  # truths that other gateways are still to be asked about
_MOST_AT_ONCE = 1000
_PATIENCE_S = 5.0

# None: not known there.
Found = Verdict | HeadraceError | None
# What the other gateways make of truths about one model's answers to one tenant: a list from each.
Ask = Callable[[str, str, list[Truth]], Awaitable[Sequence[Sequence[Found]]]]
# (model, version, right)
Judged = Callable[[str, str, float], None]


async def ask(model: str, tenant: str, truths: list[Truth]) -> Sequence[Sequence[Found]]:
    """All gateways, this one included. One that does not answer may have known: that is told, unless another
    one knows."""
    gateways = DeploymentHandle("Gateway", GATEWAY_APP)
    found = await ask_all_async(gateways, "judge_here", model, tenant, truths, timeout_s=_PATIENCE_S)
    told: list[Sequence[Found]] = [entry for entry in found if not isinstance(entry, BaseException)]
    return told if len(told) == len(found) else [*told, [_unreachable()] * len(truths)]


class Feedback:
    """Of all models for which the configuration asks for it; a model's others are left alone."""

    def __init__(self, configs: Mapping[str, FeedbackConfig], judged: Judged, ask: Ask | None) -> None:
        """`ask` is None where there is no other gateway."""
        self._configs = configs
        self._judged = judged
        self._peers = None if ask is None else _Peers(ask)
        self._answers: dict[str, Answers] = {}

    def named(self, request: InferRequest) -> InferRequest:
        """The request, with an id where its answer may have to be found again."""
        if request.id or request.model not in self._configs:
            return request
        return replace(request, id=uuid.uuid4().hex)

    def note(self, request: InferRequest, response: InferResponse, signature: Signature) -> None:
        """Remember an answer, if feedback may come."""
        config = self._configs.get(request.model)
        if config is None:
            return
        answers = self._answers.get(request.model)
        if answers is None:
            spec = next(spec for spec in signature.outputs if spec.name == config.output)
            answers = self._answers[request.model] = Answers(config, spec)
        answers.note(request.tenant, request.id, response.version, response.outputs, time.time())

    def judge_here(self, model: str, tenant: str, truths: Sequence[Truth]) -> list[Found]:
        """What this gateway knows of: each judged once, and counted."""
        return [self._judge(model, tenant, truth) for truth in truths]

    async def judge(self, model: str, tenant: str, truths: Sequence[Truth]) -> list[Verdict | HeadraceError]:
        """Each truth's verdict, or why there is none; the gateways that may have given the answers are asked.

        NotFound for a model without feedback.
        """
        config = self._configs.get(model)
        if config is None:
            raise NotFound(
                f"model {model!r} takes no feedback; its configuration has no models.{model}.feedback"
            )
        found = self.judge_here(model, tenant, truths)
        unknown = [number for number, entry in enumerate(found) if entry is None]
        if unknown and self._peers is not None:
            asked = (self._peers.ask(model, tenant, truths[number]) for number in unknown)
            for number, told in zip(unknown, await asyncio.gather(*asked), strict=True):
                found[number] = told
        return [
            _unknown(truth, config) if entry is None else entry
            for truth, entry in zip(truths, found, strict=True)
        ]

    def _judge(self, model: str, tenant: str, truth: Truth) -> Found:
        answers = self._answers.get(model)
        if answers is None:
            return None
        try:
            verdict = answers.judge(tenant, truth, time.time())
        except HeadraceError as err:
            return err
        if verdict is not None:
            self._judged(model, verdict.version, verdict.right)
        return verdict


class _Peers:
    """Asks the other gateways, one question at a time: what comes meanwhile goes with the next."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._waiting: dict[tuple[str, str], list[tuple[Truth, asyncio.Future[Found]]]] = {}
        self._num_waiting = 0
        self._task: asyncio.Task[None] | None = None

    async def ask(self, model: str, tenant: str, truth: Truth) -> Found:
        """What any of them knows, or an error: the truth may be told again then."""
        if self._num_waiting >= _MOST_WAITING:
            return Overloaded("too much feedback waits for other gateways; tell it again", 1.0)
        told: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault((model, tenant), []).append((truth, told))
        self._num_waiting += 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())
        return await told

    async def _work(self) -> None:
        while self._waiting:
            (model, tenant), waiting = next(iter(self._waiting.items()))
            batch = waiting[:_MOST_AT_ONCE]
            del waiting[:_MOST_AT_ONCE]
            if not waiting:
                del self._waiting[model, tenant]
            self._num_waiting -= len(batch)
            found = await self._asked(model, tenant, [truth for truth, _ in batch])
            for (_, told), entry in zip(batch, found, strict=True):
                if not told.done():
                    told.set_result(entry)

    async def _asked(self, model: str, tenant: str, truths: list[Truth]) -> list[Found]:
        try:
            lists = await self._ask(model, tenant, truths)
        except Exception:
            _log.warning("the other gateways could not be asked about feedback", exc_info=True)
            return [_unreachable()] * len(truths)
        return [
            next((entry for entry in told if entry is not None), None) for told in zip(*lists, strict=True)
        ]


def _unreachable() -> EngineUnavailable:
    return EngineUnavailable("a gateway that may have given this answer does not answer now; tell it again")


def _unknown(truth: Truth, config: FeedbackConfig) -> NotFound:
    return NotFound(
        f"no answer to request {truth.id[:80]!r} is known; gateways keep {config.keep} answers for "
        f"{config.keep_s:g} s, those with output {config.output!r}"
    )
