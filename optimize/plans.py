"""TensorRT plans, built ahead of the first request: for the GPU that is here, or by RTX for others."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from batching.shapes import Sizes
from engines.artifact import Artifact
from engines.driver import find_driver
from engines.plans import Key, Plans
from engines.tensorrt import build_plan, recipe_of
from engines.trt_library import Library
from headrace.errors import ConfigRejected
from optimize.progress import Line, Progress

ENGINE = "tensorrt"


@dataclass(frozen=True, slots=True)
class Built:
    """One plan, kept where an engine finds it."""

    architecture: str  # compute capability, as "8.9"
    library: str
    profiles: tuple[str, ...]
    size_bytes: int
    seconds: float  # 0: it was there
    warnings: tuple[str, ...] = ()


def build_plans(
    artifact: Artifact,
    library: Library,
    plans: Plans,
    architectures: Sequence[str] = (),
    *,
    max_batch: int,
    buckets: Sequence[Sizes] = (),
    progress: Progress | None = None,
    goes_on: Callable[[], bool] = lambda: True,
) -> list[Built]:
    """A plan for each compute capability, such as "8.9"; for that of the GPU here when none is given.

    ConfigRejected when the version is for another engine, EngineUnavailable when the library cannot build
    for one of them, CancelledError when `goes_on` says no. What was built until then is kept.
    """
    manifest = artifact.manifest
    if manifest.engine != ENGINE:
        raise ConfigRejected(
            f"'{manifest.name}/{manifest.version}' is for {manifest.engine}; publish it for TensorRT first: "
            f"headrace publish {manifest.name}/{manifest.version} --engine {ENGINE}"
        )
    places = {architecture: architecture for architecture in architectures}
    if not architectures:
        device = find_driver().devices[0]
        places[device.architecture] = library.gpu(device)
    for architecture in architectures:
        library.architecture(architecture)  # refused before the first one is built
    return [
        _build(artifact, library, plans, architecture, gpu, max_batch, buckets, progress, goes_on)
        for architecture, gpu in places.items()
    ]


def _build(
    artifact: Artifact,
    library: Library,
    plans: Plans,
    architecture: str,
    gpu: str,
    max_batch: int,
    buckets: Sequence[Sizes],
    progress: Progress | None,
    goes_on: Callable[[], bool],
) -> Built:
    recipe = recipe_of(library, artifact, architecture, max_batch, buckets)
    key = Key.of(artifact.digest, recipe, library.in_words, gpu)
    profiles = tuple(profile.in_words() for profile in recipe.profiles)
    known = plans.get(key)
    if known is not None:
        return Built(architecture, library.in_words, profiles, len(known), 0.0)
    watching = _Watching(progress, f"plan for {architecture}", goes_on)
    started = time.monotonic()
    before = plans.timing_cache(library.in_words, gpu)
    try:
        plan = build_plan(library, artifact, recipe, watching, before)
    finally:
        watching.finish()
    plans.put(key, plan.data)
    plans.put_timing_cache(library.in_words, gpu, plan.timing_cache)
    seconds = time.monotonic() - started
    return Built(architecture, library.in_words, profiles, len(plan.data), seconds, plan.warnings)


class _Watching:
    """A build as lines of progress, one for each of its outermost phases."""

    def __init__(self, progress: Progress | None, title: str, goes_on: Callable[[], bool]) -> None:
        self._progress = progress
        self._title = title
        self._goes_on = goes_on
        self._lines: dict[str, Line] = {}

    def began(self, phase: str, parent: str | None, steps: int) -> None:
        if parent is None:
            self._lines[phase] = Line(self._progress, f"{self._title}: {phase.lower()}", steps)

    def stepped(self, phase: str, step: int) -> bool:
        if phase in self._lines:
            self._lines[phase].advance()
        return self._goes_on()

    def ended(self, phase: str) -> None:
        if phase in self._lines:
            self._lines.pop(phase).finish()

    def finish(self) -> None:
        for phase in list(self._lines):
            self.ended(phase)
