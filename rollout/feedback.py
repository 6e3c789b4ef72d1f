"""Answers remembered until somebody tells what would have been right (pure: the time is an argument)."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from headrace.config import FeedbackConfig
from headrace.errors import CallerError, Conflict
from headrace.requests import LONGEST_ID, Truth, Verdict
from headrace.tensors import Array, TensorMap, TensorSpec

_LARGEST = 4096  # bytes that are remembered of one answer


@dataclass(frozen=True, slots=True)
class Gist:
    """As much of an answer as it takes to judge it: of scores the class of each row."""

    values: Array | None  # None: too much to be kept
    classes: int = 0  # that there are, rule "top1"


@dataclass(slots=True)
class _Record:
    version: str
    at: float
    gist: Gist | None  # None: it has been judged


class Answers:
    """Of one model in one process: the last `keep` of the last `keep_s` seconds, by tenant and id."""

    def __init__(self, config: FeedbackConfig, spec: TensorSpec) -> None:
        """`spec` is that of the output which feedback is about."""
        self._config = config
        self._spec = spec
        self._records: OrderedDict[tuple[str, str], _Record] = OrderedDict()

    def __len__(self) -> int:
        return len(self._records)

    def note(self, tenant: str, request_id: str, version: str, outputs: TensorMap, now: float) -> None:
        """Remember an answer. An id that comes again is that of the later request. What cannot be told of
        later is not remembered: without the output, or with an id that is too long."""
        if self._config.output not in outputs or not 0 < len(request_id) <= LONGEST_ID:
            return
        key = tenant, request_id
        gist = gist_of(self._config, self._spec, outputs[self._config.output])
        self._records[key] = _Record(version, now, gist)
        self._records.move_to_end(key)
        if len(self._records) > self._config.keep:
            self._records.popitem(last=False)

    def judge(self, tenant: str, truth: Truth, now: float) -> Verdict | None:
        """Whether an answer was right; None when it is not known here (any more). Each is judged once:
        Conflict afterwards. CallerError for a truth that does not fit the answer."""
        self._expire(now)
        record = self._records.get((tenant, truth.id))
        if record is None:
            return None
        if record.gist is None:
            raise Conflict(f"the truth of request {truth.id[:80]!r} was told before; it counts once")
        right = truth.right
        if right is None:
            right = share_right(self._config, self._spec, record.gist, truth.label)
        record.gist = None
        return Verdict(record.version, right)

    def _expire(self, now: float) -> None:
        while self._records:
            key, record = next(iter(self._records.items()))
            if now - record.at <= self._config.keep_s:
                break
            del self._records[key]


def gist_of(config: FeedbackConfig, spec: TensorSpec, array: Array) -> Gist:
    if config.rule == "top1" and array.ndim and array.shape[-1]:
        values: Array = np.asarray(array).argmax(axis=-1).astype(np.int32)
        classes = array.shape[-1]
    else:
        values, classes = array, 0
    size = sum(map(len, values.reshape(-1).tolist())) if spec.dtype == "BYTES" else values.nbytes
    return Gist(np.array(values) if size <= _LARGEST else None, classes)


def share_right(config: FeedbackConfig, spec: TensorSpec, gist: Gist, label: object) -> float:
    """The share of an answer's values that agree with the truth; CallerError when they do not fit."""
    if gist.values is None:
        raise CallerError(
            f"output {spec.name!r} of that answer is too large to be kept; tell 'right' instead of 'label'"
        )
    truth = _fitted(spec, gist, _array(config, spec, label))
    if config.rule == "top1" and truth.size and (truth.min() < 0 or truth.max() >= gist.classes):
        raise CallerError(f"'label' is to hold classes from 0 to {gist.classes - 1}")
    if not truth.size:
        return 1.0
    if config.rule == "close":
        values = gist.values.astype(np.float64)
        return float((np.abs(values - truth) <= config.tolerance * np.abs(truth)).mean())
    if spec.dtype == "BYTES":
        values = np.array([_bytes(value) for value in gist.values.reshape(-1).tolist()], object)
        return float((values == truth.reshape(-1)).mean())
    return float((gist.values == truth).mean())


def _array(config: FeedbackConfig, spec: TensorSpec, label: object) -> Array:
    try:
        found = np.array(label)
    except ValueError as err:
        raise CallerError("'label' has rows of different lengths") from err
    if config.rule == "top1":
        wanted, kinds = "integers, the classes", "iu"
    elif spec.dtype == "BYTES":
        wanted, kinds = "text", "U"
    elif spec.dtype == "BOOL":
        wanted, kinds = "true or false", "b"
    else:
        wanted, kinds = "numbers", "iuf"
    if found.size and found.dtype.kind not in kinds:
        raise CallerError(f"'label' is to hold {wanted}, for each row of output {spec.name!r}")
    if spec.dtype == "BYTES" and config.rule == "equal":
        flat = np.empty(found.size, object)
        flat[:] = [_bytes(value) for value in found.reshape(-1).tolist()]
        return flat.reshape(found.shape)
    if found.dtype.kind == "f" and not all(map(math.isfinite, found.reshape(-1).tolist())):
        raise CallerError("'label' is to hold numbers; one is infinite or none")
    return found


def _fitted(spec: TensorSpec, gist: Gist, truth: Array) -> Array:
    """The truth in the answer's shape: what is of one row need not be told as a list of rows."""
    assert gist.values is not None
    shape = gist.values.shape
    for fitting in (shape, shape[1:] if shape[:1] == (1,) else shape):
        if truth.shape == fitting:
            return truth.reshape(shape)
    if truth.size == gist.values.size == 1:
        return truth.reshape(shape)
    told = list(shape[1:]) if shape[:1] == (1,) else list(shape)
    raise CallerError(
        f"'label' has the shape {list(truth.shape)}; for that answer's {spec.name!r} it is to have {told}"
    )


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
