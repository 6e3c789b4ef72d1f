"""What a profile has found, as data: for profile.json, for the terminal, for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

MAX_BYTES = 64 << 20  # of the files that a replica sends back


@dataclass(frozen=True, slots=True)
class Row:
    """One operator, node or function."""

    name: str
    seconds: float
    share: float  # of the table's whole
    calls: int
    detail: str = ""  # where it ran, its shapes


@dataclass(frozen=True, slots=True)
class Table:
    """What took how much of a whole."""

    title: str
    rows: Sequence[Row]
    total_s: float  # what the shares are of

    def told(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Raw:
    """What a tool leaves when it ends."""

    files: Mapping[str, bytes] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Taken:
    """What comes back from the process that was profiled, as plain data, so that it may cross processes."""

    seconds: float
    traffic: Mapping[str, Any]  # of profiling.probe.Traffic
    timeline: Sequence[Mapping[str, float | None]]
    process: Mapping[str, Any]  # kind, node, pid
    facts: Mapping[str, Any] = field(default_factory=dict)  # of the tool
    files: Mapping[str, bytes] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """What a tool's files say, and how to look at them; `{out}` stands for the folder."""

    tables: Sequence[Table] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    view: Sequence[str] = ()
    notes: Sequence[str] = ()


def ranked(sums: Mapping[str, tuple[float, int, str]], total_s: float, most: int) -> list[Row]:
    """The rows that took most, of seconds, calls and details by name."""
    order = sorted(sums.items(), key=lambda entry: -entry[1][0])[:most]
    return [
        Row(name, seconds, seconds / total_s if total_s else 0.0, calls, detail)
        for name, (seconds, calls, detail) in order
    ]
