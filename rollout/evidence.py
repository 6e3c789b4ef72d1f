"""What each version of a model did, second by second: counts and sketches that add up over gateways.

Seconds are the unit, not requests: what disturbs a machine disturbs all requests of some seconds, and a test
that took them for independent would find a difference in every such second.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields

from headrace.sketch import Sketch


@dataclass(slots=True)
class Slot:
    """What one version did within one second, or what several of these add up to."""

    requests: int = 0  # by callers, answered or not
    errors: int = 0  # of these: failed, and not by the caller's mistake
    hits: int = 0  # of these: from a cache
    latency: Sketch = field(
        default_factory=Sketch
    )  # seconds; computed answers only: a new version's cache is cold
    inner: Sketch = field(default_factory=Sketch)  # the same, in the engine's process alone: queue and engine
    engine_s: float = 0.0  # of engines, for these
    replica_s: float = 0.0  # of replicas that were there
    copies: int = 0  # of callers' requests, in shadow
    copy_errors: int = 0  # of these
    copies_dropped: int = 0  # not sent, since too many were under way
    compared: int = 0  # answers to copies, with those that the callers got
    differing: int = 0  # of these: by more than is allowed
    flipped: float = 0.0  # sum over these of the share of rows whose top-1 is another
    distance: float = 0.0  # sum over these of 1 - cosine, 0 to 1
    judged: int = 0  # answers of which the truth was told
    right: float = 0.0  # of these, in parts: 0 to `judged`

    def add(self, other: Slot) -> None:
        for name in _NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.latency.merge(other.latency)
        self.inner.merge(other.inner)


_NUMBERS = tuple(entry.name for entry in fields(Slot) if entry.name not in ("latency", "inner"))

# By second (Unix time) and version.
Slots = dict[int, dict[str, Slot]]


def together(slots: Iterable[Slot]) -> Slot:
    """What they add up to; they themselves stay as they are."""
    whole = Slot()
    for slot in slots:
        whole.add(slot)
    return whole


def merge_into(slots: Slots, others: Mapping[int, Mapping[str, Slot]]) -> None:
    """Add those of another process."""
    for second, versions in others.items():
        mine = slots.setdefault(second, {})
        for version, slot in versions.items():
            mine.setdefault(version, Slot()).add(slot)


@dataclass(frozen=True, slots=True)
class Window:
    """The same second of both versions, or several seconds as one (`rollout.blocks.condense`)."""

    stable: Slot
    candidate: Slot
    seconds: int = 1


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a decision about a step of a rollout looks at: this step's seconds, and the stable version's
    before the rollout, when it had all the traffic. `is_mixed`: the versions run in different ways, so that
    only what happens in the engine's process can be compared.
    """

    elapsed_s: float  # since the step began
    windows: tuple[Window, ...]  # of the step, oldest first
    before: tuple[Slot, ...] = ()
    is_mixed: bool = False


def windows(slots: Slots, stable: str, candidate: str, since: float, until: float) -> tuple[Window, ...]:
    """Seconds that lie wholly between two times, those without a request left out."""
    found = []
    for second in sorted(slots):
        if since <= second and second + 1 <= until:
            versions = slots[second]
            found.append(Window(versions.get(stable) or Slot(), versions.get(candidate) or Slot()))
    return tuple(found)
