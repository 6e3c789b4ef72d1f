"""Which version answers a request: by shares, and the same one for the same caller (pure)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

_GOLDEN = 0.6180339887498949  # multiples of it fill [0, 1) evenly, however many there are
_SPAN = 2.0**64


@dataclass(frozen=True, slots=True)
class Split:
    """Shares of 1 by version, those that gain first: as a share grows, callers only ever move to it.

    `salt` makes another rollout choose other callers first.
    """

    shares: Mapping[str, float]
    salt: str = ""
    shadow: tuple[str, float] | None = None  # the version that gets copies, and of which share of requests

    def at(self, point: float) -> str:
        """The version at a point of [0, 1)."""
        edge = 0.0
        for version, share in self.shares.items():
            edge += share
            if point < edge:
                return version
        return list(self.shares)[-1]  # sums of floats end a little below 1

    @property
    def is_whole(self) -> bool:
        """One version answers all."""
        return len(self.shares) == 1


def whole(version: str) -> Split:
    return Split({version: 1.0})


@dataclass(slots=True)
class Chooser:
    """Chooses by a split. Requests without a key take turns, evenly spread, so that a share is met from the
    first requests on and no rhythm of theirs meets ours."""

    split: Split
    _turn: float = field(default=0.0)
    _copy_turn: float = field(default=0.0)

    def version(self, key: str = "") -> str:
        split = self.split
        if split.is_whole:
            return next(iter(split.shares))
        if key:
            return split.at(point_of(split.salt, key))
        self._turn = (self._turn + _GOLDEN) % 1.0
        return split.at(1.0 - self._turn)

    def copies_to(self) -> str | None:
        """The version that gets a copy of this request, if any."""
        if self.split.shadow is None:
            return None
        version, share = self.split.shadow
        self._copy_turn = (self._copy_turn + _GOLDEN) % 1.0
        return version if 1.0 - self._copy_turn <= share else None


def point_of(salt: str, key: str) -> float:
    """Where in [0, 1) a caller is."""
    digest = hashlib.blake2b(f"{salt}\0{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / _SPAN
