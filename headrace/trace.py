"""Where in a trace something happens: the W3C trace context, read and written (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from random import getrandbits

PARENT, STATE = "traceparent", "tracestate"  # headers, gRPC metadata
_TEXT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[\x21-\x7e]*)?")
_MEMBER = re.compile(
    r"[a-z0-9][a-z0-9_\-*/@]{0,255}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
_MOST_MEMBERS = 32
_MOST_STATE = 512  # characters; the specification asks for so many at least
_SAMPLED = 1


@dataclass(frozen=True, slots=True)
class TraceContext:
    """One span's place: which trace and span, whether it is recorded, and what others said of the trace."""

    trace_id: int
    span_id: int
    is_sampled: bool = False
    state: str = ""

    def header(self) -> str:
        """As `traceparent` has it."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{'01' if self.is_sampled else '00'}"


@dataclass(frozen=True, slots=True)
class Traced:
    """A request's own span, where others link to it, and when it came, by this process's monotonic clock."""

    context: TraceContext
    began: float


def new_trace_id() -> int:
    return getrandbits(128) or 1


def new_span_id() -> int:
    return getrandbits(64) or 1


def parse(parent: str, state: str = "") -> TraceContext | None:
    """What the two headers say; None for a `traceparent` that is missing or malformed, which is to count as
    missing. A malformed `tracestate` counts as missing, too."""
    found = _TEXT.fullmatch(parent.strip(" \t"))
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more is not None):
        return None
    context = TraceContext(
        int(trace_id, 16), int(span_id, 16), bool(int(flags, 16) & _SAMPLED), _checked_state(state)
    )
    return context if context.trace_id and context.span_id else None


def read(headers: Iterable[tuple[str | bytes, str | bytes]]) -> TraceContext | None:
    """The context in headers, or in gRPC's metadata; names are in lower case. One `traceparent` counts,
    several `tracestate` are one list."""
    parents: list[str] = []
    states: list[str] = []
    for key, value in headers:
        if key in (PARENT, b"traceparent"):
            parents.append(_text(value))
        elif key in (STATE, b"tracestate"):
            states.append(_text(value))
    return parse(parents[0], ",".join(states)) if len(parents) == 1 else None


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


def _checked_state(state: str) -> str:
    members = [member for part in state.split(",") if (member := part.strip(" \t"))]
    keys = {member.partition("=")[0] for member in members}
    is_whole = len(members) <= _MOST_MEMBERS and len(keys) == len(members)
    if not is_whole or not all(_MEMBER.fullmatch(member) for member in members):
        return ""
    while len(text := ",".join(members)) > _MOST_STATE:
        members.pop()  # the specification takes from the end, what was said longest ago
    return text
