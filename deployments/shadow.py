"""Copies of live requests to a version that no caller sees yet; its answers are compared and dropped."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import replace

from deployments import metrics
from deployments.served import Served
from headrace.config import AnswerConfig
from headrace.errors import CallerError, HeadraceError
from headrace.metrics import COPIES
from headrace.requests import LOWEST_PRIORITY, InferRequest
from headrace.tensors import TensorMap
from monitoring.recorder import Seconds
from rollout.compare import compare
from rollout.noted import Noted

_log = logging.getLogger(__name__)

_MOST = 16  # copies under way; past it they are dropped, so that a slow candidate takes no memory
_LARGE_BYTES = 256 << 10  # comparing so much takes about a millisecond
_TIMEOUT_S = 30.0  # of copies of requests that have none


class Shadow:
    """Bounded, off the callers' path, after their answers."""

    def __init__(self, noted: Noted, seconds: Seconds) -> None:
        self._noted = noted
        self._seconds = seconds
        self._copies: set[asyncio.Task[None]] = set()

    def copy(
        self,
        request: InferRequest,
        candidate: Served,
        answer: TensorMap,
        timeout_s: float | None,
        rules: Mapping[str, AnswerConfig],
    ) -> None:
        """Ask the candidate the same, and note how its answer differs."""
        if len(self._copies) >= _MOST:
            self._noted.slot(request.model, candidate.version, time.time()).copies_dropped += 1
            metrics.count(COPIES, (request.model, candidate.version, "dropped"))
            return
        task = asyncio.create_task(self._copy(request, candidate, answer, timeout_s or _TIMEOUT_S, rules))
        self._copies.add(task)
        task.add_done_callback(self._copies.discard)

    async def close(self) -> None:
        for task in self._copies:
            task.cancel()
        await asyncio.gather(*self._copies, return_exceptions=True)

    async def _copy(
        self,
        request: InferRequest,
        candidate: Served,
        answer: TensorMap,
        timeout_s: float,
        rules: Mapping[str, AnswerConfig],
    ) -> None:
        request = replace(request, version=candidate.version, priority=LOWEST_PRIORITY)
        deadline = asyncio.get_running_loop().time() + timeout_s
        try:
            ran = await candidate.infer(request, deadline)
        except CallerError:
            return  # the stable version's caller was refused, too, or no answer was remembered
        except Exception as err:
            if not isinstance(err, HeadraceError):
                _log.exception("a copy failed")
            slot = self._noted.slot(request.model, candidate.version, time.time())
            slot.copies += 1
            slot.copy_errors += 1
            metrics.count(COPIES, (request.model, candidate.version, "failed"))
            return
        size = sum(array.nbytes for array in answer.values())
        found = (
            await asyncio.to_thread(compare, candidate.signature, answer, ran.outputs, rules)
            if size > _LARGE_BYTES
            else compare(candidate.signature, answer, ran.outputs, rules)
        )
        slot = self._noted.slot(request.model, candidate.version, time.time())
        slot.copies += 1
        slot.compared += 1
        slot.differing += found.is_differing
        outcome = "different" if found.is_differing else "same"
        metrics.count(COPIES, (request.model, candidate.version, outcome))
        slot.flipped += found.flipped
        slot.distance += found.distance
        self._seconds.compared((request.model, candidate.version), found.is_differing, found.flipped)
