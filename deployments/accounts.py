"""What is told of each request of this gateway: its trace and its log line.

Both are made of its times when it is over, so that one that was chosen for being slow is as complete as one
that was chosen beforehand, and one that is not chosen costs next to nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from random import getrandbits
from typing import Any

from deployments.caller import ClientLeftError
from deployments.logs import RequestLog
from deployments.tracing import Tracing
from headrace.errors import HeadraceError
from headrace.requests import Asked, InferRequest, InferResponse, Way
from headrace.trace import PARENT, STATE, TraceContext, Traced, new_span_id, new_trace_id, read
from monitoring.finished import Finished
from monitoring.logs import printable
from monitoring.stages import STAGES, Spent

REQUEST_ID = "x-request-id"
_REQUEST_IDS = frozenset((REQUEST_ID, REQUEST_ID.encode()))
_TRACES = frozenset((PARENT, PARENT.encode(), STATE, STATE.encode()))
_LEFT = 499  # as nginx has it: the caller did not wait

Headers = Iterable[tuple[str | bytes, str | bytes]]


class Accounts:
    """Where traces and lines are both off, nothing is made of a request."""

    def __init__(self, tracing: Tracing | None, log: RequestLog) -> None:
        self._tracing = tracing
        self._log = log if log.choice.is_any else None
        self._is_on = tracing is not None or self._log is not None

    def start(self) -> None:
        if self._log is not None:
            self._log.start()

    def close(self) -> None:
        """Write what is left, for at most some seconds."""
        if self._log is not None:
            self._log.close()
        if self._tracing is not None:
            self._tracing.close()

    def asked(self, way: Way, headers: Headers, began: float, request_id: str = "") -> Asked | None:
        """How a request came by its headers; `began` is the monotonic clock's. None when nothing is told."""
        if not self._is_on:
            return None
        told = []
        for header in headers:
            key, value = header
            if key in _REQUEST_IDS:
                request_id = value if isinstance(value, str) else value.decode("latin-1")
            elif key in _TRACES:
                told.append(header)
        request_id = printable(request_id) or f"{getrandbits(128):032x}"
        if self._tracing is None:
            return Asked(way, request_id, began)
        parent = read(told) if told else None
        trace_id = new_trace_id() if parent is None else parent.trace_id
        is_sampled = self._tracing.rules.at_start(trace_id, parent)
        context = TraceContext(trace_id, new_span_id(), is_sampled, parent.state if parent else "")
        return Asked(way, request_id, began, Traced(context, began), parent)

    def headers(self, asked: Asked, status: int) -> dict[str, str]:
        """What an answer tells of its trace; sampled is what will be, as far as that is known by now."""
        context = asked.context
        if context is None or self._tracing is None:
            return {}
        took_s = time.monotonic() - asked.began
        is_sampled = context.is_sampled or self._tracing.rules.afterwards(took_s, status)
        return {PARENT: TraceContext(context.trace_id, context.span_id, is_sampled).header()}

    def answered(self, request: InferRequest, response: InferResponse, total_s: float, spent: Spent) -> None:
        if request.asked is None:
            return
        is_traced, is_logged = self._wants(request.asked, total_s, 200)
        if not (is_traced or is_logged):
            return
        timings = response.timings
        finished = _finished(
            request,
            request.asked,
            total_s,
            model=response.model,
            version=response.version,
            stages=tuple(zip(STAGES, spent, strict=True)),
            hop_s=timings.hop_s,
            variant=response.variant,
            tier=timings.tier,
            batch_rows=timings.batch_rows,
            bytes_out=sum(array.nbytes for array in response.outputs.values()),
            batches=timings.batches,
        )
        self._tell(finished, is_traced, is_logged)

    def failed(self, request: InferRequest, version: str, err: BaseException, *, is_known: bool) -> None:
        """`is_known`: there is such a model, and such a version if one is named."""
        if (asked := request.asked) is None:
            return
        status, kind = HeadraceError.status, HeadraceError.kind
        if isinstance(err, HeadraceError):
            status, kind = err.status, err.kind
        elif isinstance(err, asyncio.CancelledError | ClientLeftError):
            status, kind = _LEFT, "left"
        total_s = time.monotonic() - asked.began
        is_traced, is_logged = self._wants(asked, total_s, status)
        if not (is_traced or is_logged):
            return
        names = (request.model, version) if is_known else ("", "")
        finished = _finished(
            request, asked, total_s, model=names[0], version=names[1], stages=(), status=status, error=kind
        )
        self._tell(finished, is_traced, is_logged)

    def _wants(self, asked: Asked, total_s: float, status: int) -> tuple[bool, bool]:
        is_traced = False
        if self._tracing is not None and (context := asked.context) is not None:
            is_traced = context.is_sampled or (
                self._tracing.rules.afterwards(total_s, status) and self._tracing.may_keep(time.monotonic())
            )
        return is_traced, self._log is not None and self._log.choice.takes(total_s, status)

    def _tell(self, finished: Finished, is_traced: bool, is_logged: bool) -> None:
        if is_traced and self._tracing is not None:
            self._tracing.traces.put(finished)
        if is_logged and self._log is not None:
            self._log.put(finished)


def _finished(request: InferRequest, asked: Asked, total_s: float, **more: Any) -> Finished:
    return Finished(
        way=asked.way,
        started=time.time() - total_s,
        took_s=total_s,
        request_id=asked.request_id,
        rows=request.rows,
        bytes_in=sum(array.nbytes for array in request.inputs.values()),
        context=asked.context,
        parent=asked.parent,
        **more,
    )
