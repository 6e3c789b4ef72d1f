"""What a caller says of earlier answers: JSON <-> truths. No part of the Open Inference Protocol.

{"id": "...", "label": 3}   {"id": "...", "label": [3, 1]}   {"id": "...", "label": "text"}
{"id": "...", "right": true}   {"id": "...", "right": 0.5}   and a list of such objects
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from headrace.errors import CallerError, HeadraceError, TooLarge
from headrace.requests import LONGEST_ID, Truth, Verdict
from protocol.limits import Limits, check_depth, error_text, shown

BODY_BYTES = 1 << 20
MOST = 1000  # objects of one list

Told = Verdict | HeadraceError


def decode(body: bytes, limits: Limits) -> tuple[list[Truth], bool]:
    """The truths in a body, and whether they came as a list; CallerError when one of them is wrong."""
    if len(body) > BODY_BYTES:
        raise TooLarge(f"the body has {len(body)} bytes; feedback may have {BODY_BYTES}")
    check_depth(body, limits.json_depth)
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as err:
        raise CallerError(f"the feedback is not valid JSON: {err}") from err
    if not isinstance(document, list):
        return [_truth(document, "the feedback")], False
    if not 1 <= len(document) <= MOST:
        raise CallerError(f"the list has {len(document)} objects; 1 to {MOST} are allowed")
    return [_truth(entry, f"feedback[{number}]") for number, entry in enumerate(document)], True


def encode(truths: Sequence[Truth], told: Sequence[Told], is_list: bool) -> bytes:
    """How right each answer was; in a list, what could not be judged says why in its place."""
    results = [_result(truth, found) for truth, found in zip(truths, told, strict=True)]
    return orjson.dumps({"results": results} if is_list else results[0])


def truth_of(request_id: object, label: object, right: object, where: str = "feedback") -> Truth:
    """One truth, checked; CallerError says what is wrong with it."""
    if not isinstance(request_id, str) or not request_id:
        raise CallerError(f"{where}: 'id' must be that of a request; got {shown(request_id)}")
    if len(request_id) > LONGEST_ID:
        raise CallerError(
            f"{where}: 'id' has {len(request_id)} characters; answers are kept by ids of up to {LONGEST_ID}"
        )
    if (label is None) == (right is None):
        got = "neither" if label is None else "both"
        raise CallerError(f"{where} has {got} of 'label' and 'right'; give exactly one")
    if right is None:
        return Truth(request_id, label)
    if not isinstance(right, bool | int | float) or not 0 <= right <= 1:
        raise CallerError(f"{where}: 'right' must be true, false or a number from 0 to 1; got {shown(right)}")
    return Truth(request_id, right=float(right))


def _truth(entry: object, where: str) -> Truth:
    if not isinstance(entry, dict):
        raise CallerError(f"{where} must be an object with 'id' and 'label' or 'right'; got {shown(entry)}")
    return truth_of(entry.get("id"), entry.get("label"), entry.get("right"), where)


def _result(truth: Truth, found: Told) -> dict[str, Any]:
    if isinstance(found, HeadraceError):
        return {"id": truth.id, "error": error_text(found)}
    return {"id": truth.id, "model_version": found.version, "right": found.right}
