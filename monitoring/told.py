"""What one process tells of itself, and what somebody else knows about versions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from monitoring.process import Process
from monitoring.slots import Named, Slot


@dataclass(frozen=True, slots=True)
class Waiting:
    """Of one version, now."""

    rows: int
    oldest_s: float


@dataclass(frozen=True, slots=True)
class Told:
    """By a gateway or a replica."""

    id: str
    kind: Literal["gateway", "replica", "monitor"]
    now: float  # its clock, Unix time
    slots: dict[int, Slot]  # by second, since the one that was asked for
    waiting: dict[Named, Waiting]
    process: Process
    model: str = ""  # of a replica
    version: str = ""
    cache: dict[str, Any] | None = None  # of a gateway: as `headrace cache stats` tells it
    applications: tuple[str, ...] = ()  # of a gateway: those that it asks
    stable: dict[str, str] = field(default_factory=dict)  # of a gateway: by model and pipeline


@dataclass(frozen=True, slots=True)
class Replicas:
    """Of one version."""

    running: int
    wanted: int


@dataclass(frozen=True, slots=True)
class Versions:
    """Of one model, as the repository and the configuration say."""

    placement: str
    stable: str
    shares: dict[str, float]  # of requests that name no version
    former: str = ""  # the stable one before; "": there was none
    candidate: str = ""
    variants: tuple[str, ...] = ()  # of a test
    rollout: dict[str, Any] | None = None  # as the document has it
    replicas: dict[str, Replicas] = field(default_factory=dict)
    reports: frozenset[str] = frozenset()  # versions with an optimization report
    named: frozenset[str] = frozenset()  # those that answer who asks for them by name

    def role(self, version: str) -> str:
        """What a version is there for."""
        if version == self.stable:
            return "stable"
        if version == self.candidate:
            return "candidate"
        if version in self.variants:
            return "variant"
        return "named" if version in self.named else "former"
