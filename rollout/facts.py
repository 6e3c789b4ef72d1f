"""What an audit looks at, as plain data: models with what they did, caches, this machine."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from engines.manifest import Manifest
from headrace.config import ModelConfig
from rollout.traffic import Traffic


@dataclass(frozen=True, slots=True)
class Here:
    """This machine, and the versions of the engines' libraries on it."""

    cores: int
    flags: tuple[str, ...]
    libraries: Mapping[str, str]  # by engine


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a version's baseline says of it."""

    slowest_s: Mapping[int, float] = field(
        default_factory=dict
    )  # P95 of the slowest shape, by rows of a batch
    accuracy: float | None = None  # None: not recorded
    recorded: str = ""  # when: UTC, ISO 8601

    def batch_s(self, rows: float) -> float | None:
        """What a batch of so many rows takes at most; None where none as large was recorded."""
        return min((seconds for batch, seconds in self.slowest_s.items() if batch >= rows), default=None)


@dataclass(frozen=True, slots=True)
class Judged:
    """How many answers of a version were right, of those whose truth was told."""

    answers: int
    right: float

    @property
    def accuracy(self) -> float:
        return self.right / self.answers if self.answers else 0.0


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """One served model. None and "" stand for what is not known."""

    config: ModelConfig
    manifest: Manifest  # of the version that answers
    others: tuple[Manifest, ...] = ()  # of the repository
    command: str = ""  # that made the version, as its report has it
    baseline: Recorded | None = None
    judged: Judged | None = None
    processes: int | None = None  # that have an engine of it
    lately: Traffic | None = None  # in the time that was looked at
    so_far: Traffic | None = None  # since the processes started

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def version(self) -> str:
        return self.manifest.version

    @property
    def engines(self) -> int | None:
        """Batches that can be computed at the same time."""
        return None if self.processes is None else self.processes * self.config.batching.permits

    @property
    def busy(self) -> float | None:
        """The share of the time in which its engines computed."""
        return self.lately.busy(self.engines) if self.lately and self.engines else None

    @property
    def is_by_recipe(self) -> bool:
        return self.command.startswith("headrace ")

    def reoptimize(self, repository: str) -> str:
        """The command that makes it anew, with recipe and goals as they were."""
        words = shlex.split(self.command) if self.is_by_recipe else []
        recipe = next((word for word in words if word.endswith(".py")), "RECIPE.py")
        goals = [word for at, word in enumerate(words) if "--goal" in (word, *words[at - 1 : at])]
        return shlex.join(
            ["headrace", "reoptimize", self.name, "--recipe", recipe, "--repository", repository, *goals]
        )


@dataclass(frozen=True, slots=True)
class Memory:
    """The answers in the memory of one gateway."""

    answers: int
    num_bytes: int
    max_bytes: int

    @property
    def fill(self) -> float:
        return self.num_bytes / self.max_bytes if self.max_bytes else 0.0


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A newer library, measured beside the installed one on the same version of a model."""

    model: str
    library: str
    installed: str
    newer: str
    ratio: float  # of rows per second: above 1 the newer one is faster
    low: float  # with a confidence of 95% it is at least this
    high: float


@dataclass(frozen=True, slots=True)
class Facts:
    at: datetime  # now, with its time zone
    here: Here
    models: tuple[ModelFacts, ...]
    repository: str  # as commands are to name it
    config: str = "CONFIG"  # likewise
    memories: tuple[Memory, ...] = ()
    shared: Memory | None = None  # the shared cache; max_bytes 0: no limit
    upgrades: tuple[Upgrade, ...] = ()
    unknown: tuple[str, ...] = field(default=())  # what could not be found out, and why
