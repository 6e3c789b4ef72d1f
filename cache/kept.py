"""What a cache gives back: an answer, or who is to compute it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from cache.scope import Scope
from headrace.tensors import TensorMap


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer from a cache, its arrays read-only, and how long ago it was computed."""

    outputs: TensorMap
    age_s: float


@dataclass(frozen=True, slots=True)
class PurgeLog:
    """What was purged: all of it, as far as the log goes back, or what is new."""

    first: bytes | None  # tells logs apart; None: nothing was ever purged
    length: int
    entries: list[Scope]


class Claim(Enum):
    """What became of an attempt to be the one who computes an answer."""

    MINE = "mine"  # the caller is to put the answer, or to release the claim
    TAKEN = "taken"  # somebody else computes it, or died less than a lease ago
    NONE = "none"  # the store is out of reach, or takes no claims
