"""Do two versions give the same answer? (pure)

What holds for an output is decided by what it is, unless the user says otherwise:

integers, booleans, text           equal
rows of scores                     top1: the largest of each row is the same; ties do not count
rows of length 1 (embeddings)      cosine
other numbers                      close: the norm of the differences over the norm of the numbers

Rows of scores have a last dimension of fixed size, 2 or more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from headrace.config import AnswerConfig
from headrace.errors import ConfigRejected
from headrace.likeness import cosines
from headrace.tensors import FLOATS, Array, Signature, TensorMap, TensorSpec

Rule = Literal["top1", "cosine", "close", "equal"]
# What is allowed where the user does not say. MiniLM's embeddings in dynamic INT8, alone or padded in
# batches, have cosines of 0.93 and more with each other and with those in FP32 (2,000 chat messages); half of
# the messages have no other with more than 0.61. Static INT8 flips 0.06% of written digits, none of them with
# a lead of 1%.
TOLERANCES: Mapping[Rule, float] = {"top1": 0.01, "cosine": 0.1, "close": 0.05, "equal": 0.0}
_UNIT = 0.01  # of which the length of an embedding may differ from 1, rounded to half precision
_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class OutputDifference:
    """One output of two answers. What is no number in one answer alone is infinitely far from the other's."""

    name: str
    rule: Rule
    is_differing: bool  # by more than is allowed
    largest: float = 0.0  # difference of two numbers
    relative: float = 0.0  # norm of the differences over that of the stable version's numbers
    cosine: float = 1.0  # of the worst row
    flipped: float = 0.0  # share of rows whose top-1 is another; under the rule "equal": that are not equal
    words: str = ""  # what differs, where that is no number


@dataclass(frozen=True, slots=True)
class Difference:
    """Two answers, the worst output counting."""

    outputs: tuple[OutputDifference, ...]

    @property
    def is_differing(self) -> bool:
        return any(output.is_differing for output in self.outputs)

    @property
    def flipped(self) -> float:
        """Share of rows whose top-1 is another."""
        return max((output.flipped for output in self.outputs), default=0.0)

    @property
    def distance(self) -> float:
        """1 - cosine, 0 to 1."""
        return max((min(1.0, 1.0 - output.cosine) for output in self.outputs), default=0.0)


def compare(
    signature: Signature,
    stable_outputs: TensorMap,
    candidate_outputs: TensorMap,
    rules: Mapping[str, AnswerConfig] | None = None,
) -> Difference:
    """How the candidate's answer differs from the stable version's; `rules` are the user's, by output.

    It takes about a tenth of a millisecond for an answer of some thousand numbers, and may run on any thread.
    """
    specs = {spec.name: spec for spec in signature.outputs}
    names = list(dict.fromkeys([*stable_outputs, *candidate_outputs]))
    return Difference(
        tuple(
            _output(
                specs[name], stable_outputs.get(name), candidate_outputs.get(name), (rules or {}).get(name)
            )
            for name in names
        )
    )


def check_rules(model: str, signature: Signature, rules: Mapping[str, AnswerConfig], where: str) -> None:
    """ConfigRejected for a rule about an output that does not exist, or that it cannot hold for."""
    specs = {spec.name: spec for spec in signature.outputs}
    for name, rule in rules.items():
        key = f"models.{model}.{where}"
        if name not in specs:
            raise ConfigRejected(f"{key}: no output {name!r}; the model gives: {', '.join(specs)}")
        if problem := _unfit(rule.rule, specs[name]):
            raise ConfigRejected(f"{key}: rule {rule.rule!r} does not hold for {name!r}: {problem}")


def _unfit(rule: Rule, spec: TensorSpec) -> str:
    if rule != "equal" and spec.dtype in ("BOOL", "BYTES"):
        return f"it is {spec.dtype}; use 'equal'"
    if rule in ("top1", "cosine") and (not spec.shape or spec.shape[-1] in ("batch", 1)):
        return f"its shape {list(spec.shape)} has no rows of two or more numbers; use 'close' or 'equal'"
    return ""


def _output(
    spec: TensorSpec, stable: Array | None, candidate: Array | None, given: AnswerConfig | None
) -> OutputDifference:
    rule = given.rule if given else _rule(spec, stable)
    if stable is None or candidate is None:
        return _unlike(spec, rule, "only one version gives it")
    if stable.dtype != candidate.dtype or stable.shape != candidate.shape:
        told = f"{candidate.dtype} {list(candidate.shape)}, not {stable.dtype} {list(stable.shape)}"
        return _unlike(spec, rule, told)
    tolerance = given.tolerance if given and given.tolerance is not None else TOLERANCES[rule]
    if not stable.size:
        return OutputDifference(spec.name, rule, False)
    if rule == "equal":
        return _exact(spec, stable, candidate)
    return _numbers(spec, rule, tolerance, stable, candidate)


def _rule(spec: TensorSpec, stable: Array | None) -> Rule:
    if spec.dtype not in FLOATS:
        return "equal"
    if not _has_scores(spec):
        return "close"
    return "cosine" if stable is not None and _are_embeddings(stable) else "top1"


def _has_scores(spec: TensorSpec) -> bool:
    return bool(spec.shape) and isinstance(spec.shape[-1], int) and spec.shape[-1] >= 2


def _are_embeddings(array: Array) -> bool:
    """Whether every row has length 1; a row of probabilities may have, too, if it is sure of itself."""
    rows = array.reshape(-1, array.shape[-1]).astype(np.float64)
    squares = np.einsum("ij,ij->i", rows, rows)
    if not (np.abs(squares - 1) <= 2 * _UNIT).all():
        return False
    return bool((rows.min(axis=1) < -_TINY).any() or (np.abs(rows.sum(axis=1) - 1) > _UNIT).any())


def _unlike(spec: TensorSpec, rule: Rule, words: str) -> OutputDifference:
    return OutputDifference(spec.name, rule, True, np.inf, np.inf, 0.0, 1.0, words)


def _exact(spec: TensorSpec, stable: Array, candidate: Array) -> OutputDifference:
    is_unequal = stable != candidate
    if spec.dtype in FLOATS:
        is_unequal &= ~(np.isnan(stable) & np.isnan(candidate))
    by_row = is_unequal.reshape(len(stable) if spec.shape[:1] == ("batch",) else 1, -1).any(axis=1)
    share = float(by_row.mean())
    return OutputDifference(spec.name, "equal", share > 0, cosine=1.0 - share, flipped=share)


def _numbers(
    spec: TensorSpec, rule: Rule, tolerance: float, stable: Array, candidate: Array
) -> OutputDifference:
    has_rows = stable.ndim > 0 and spec.shape[-1] != "batch"
    width = stable.shape[-1] if has_rows and stable.shape[-1] >= 2 else stable.size
    first, second = (array.reshape(-1, width).astype(np.float64) for array in (stable, candidate))
    tops = first, second
    is_lost = np.zeros(len(first), np.bool_)  # rows in which one version alone has no number
    is_odd = ~(np.isfinite(first) & np.isfinite(second))
    if is_odd.any():
        is_lost = (is_odd & (first != second) & ~(np.isnan(first) & np.isnan(second))).any(axis=1)
        tops = _without_nan(first), _without_nan(second)
        first, second = np.where(is_odd, 0.0, first), np.where(is_odd, 0.0, second)
    gaps = first - second
    scale, gap = float(np.linalg.norm(first)), float(np.linalg.norm(gaps))
    relative = np.inf if is_lost.any() else gap / scale if scale else np.inf if gap else 0.0
    cosine = float(np.where(is_lost, 0.0, cosines(first, second)).min())
    flipped = 0.0
    match rule:
        case "top1":
            flipped = float((_flips(*tops, tolerance * np.ptp(first, axis=1)) | is_lost).mean())
            is_differing = flipped > 0
        case "cosine":
            is_differing = 1.0 - cosine > tolerance
        case _:
            is_differing = relative > tolerance
    largest = np.inf if is_lost.any() else float(np.abs(gaps).max())
    return OutputDifference(spec.name, rule, is_differing, largest, relative, cosine, flipped)


def _without_nan(rows: Array) -> Array:
    return np.where(np.isnan(rows), -np.inf, rows)


def _flips(stable: Array, candidate: Array, ties: Array) -> Array:
    """The rows whose largest is another, unless the stable version has it ahead by no more than a tie."""
    was, now = stable.argmax(axis=1), candidate.argmax(axis=1)
    if np.array_equal(was, now):
        return np.zeros(len(was), np.bool_)
    rows = np.arange(len(was))
    ahead, behind = stable[rows, was], stable[rows, now]
    flips: Array = (was != now) & (ahead != behind) & ~(ahead - behind <= ties)
    return flips
