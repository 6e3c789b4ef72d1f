"""A cheaper version that answers what the usual one would refuse."""

from __future__ import annotations

import asyncio

from deployments import metrics
from deployments.served import Served
from headrace.errors import DeadlinePassed, HeadraceError, Overloaded
from headrace.metrics import CHEAPER_ANSWERS
from headrace.requests import InferRequest, Ran


async def infer(
    served: Served, cheaper: Served | None, request: InferRequest, deadline: float | None
) -> tuple[Served, Ran]:
    """Who answered, and what: the usual version, or the cheaper one when that refuses. If that cannot answer
    either, the first refusal stands; it knows when there is room again.

    A starved machine may make the usual version too slow for any request's timeout: while there is time left,
    that is a refusal, too.
    """
    refusal: HeadraceError
    try:
        return served, await served.infer(request, deadline)
    except (Overloaded, DeadlinePassed) as err:
        is_late = deadline is not None and asyncio.get_running_loop().time() >= deadline
        if cheaper is None or cheaper is served or is_late:
            raise
        refusal = err
    try:
        ran = await cheaper.infer(request, deadline)
    except HeadraceError as err:
        raise refusal from err
    metrics.count(CHEAPER_ANSWERS, (cheaper.name, cheaper.version))
    return cheaper, ran


def usual_s(usual_s: float, cheaper_s: float) -> float:
    """What one more request adds to the wait where two versions share them by their speed; 0 when nobody
    knows it of one of them."""
    return 1 / (1 / usual_s + 1 / cheaper_s) if usual_s and cheaper_s else 0.0
