"""What one look at the machine has found, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "bad"]


@dataclass(frozen=True, slots=True)
class Check:
    """`bad`: something will not work. `warn`: it will, but not as well as it could."""

    name: str
    state: State
    found: str
    advice: str = ""  # what to do, unless it is ok


def ok(name: str, found: str) -> Check:
    return Check(name, "ok", found)


def warn(name: str, found: str, advice: str) -> Check:
    return Check(name, "warn", found, advice)


def bad(name: str, found: str, advice: str) -> Check:
    return Check(name, "bad", found, advice)


def unless(is_fine: bool, state: State, name: str, found: str, advice: str) -> Check:
    """Ok, or else in this state with the advice."""
    return ok(name, found) if is_fine else Check(name, state, found, advice)
