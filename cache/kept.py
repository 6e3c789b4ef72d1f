"""What a cache gives back: an answer, or who is to compute it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from headrace.tensors import TensorMap


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer from a cache, its arrays read-only, and how long ago it was computed."""

    outputs: TensorMap
    age_s: float


class Claim(Enum):
    """What became of an attempt to be the one who computes an answer."""

    MINE = "mine"  # the caller is to put the answer, or to release the claim
    TAKEN = "taken"  # somebody else computes it, or died less than a lease ago
    NONE = "none"  # the store is out of reach, or takes no claims
