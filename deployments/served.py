"""What a gateway answers for: one version of a model, or several of them one after the other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from batching.sample import InputSample
from batching.seen import SizesSeen
from batching.shapes import Sizes
from cache.keys import key_of
from cache.responses import ResponseCache
from cache.scope import name_of
from deployments import metrics
from deployments.backends import Backend, Replicas
from deployments.door import Door
from deployments.pipelines import Step
from deployments.recorder import Recorder
from deployments.setup import Setup
from headrace.errors import NotCached, TensorRejected
from headrace.metrics import CACHE_REQUESTS, CACHE_SAVED
from headrace.requests import InferRequest, Ran, Timings
from headrace.tensors import Signature

# Computes a checked request; its deadline is in the running loop's time.
Compute = Callable[[InferRequest, Sizes, float | None], Awaitable[Ran]]


@dataclass(frozen=True, slots=True)
class Served:
    """Ready to answer."""

    step: Step
    engine: str
    compute: Compute
    responses: ResponseCache | None  # None: nothing is remembered
    timeout_s: float | None  # of requests that bring none
    door: Door
    seen: SizesSeen  # of what was computed
    recorder: Recorder
    setup: Setup | None = None  # None: a pipeline, whose steps have theirs
    backend: Backend | None = None  # likewise
    steps: tuple[Served, ...] = ()  # of a pipeline
    cheaper: str | None = None  # the version that may answer what this one refuses
    sample: InputSample | None = None  # None: no inputs are kept

    @property
    def name(self) -> str:
        return self.step.name

    @property
    def version(self) -> str:
        return self.step.version

    @property
    def signature(self) -> Signature:
        return self.step.signature

    async def infer(self, request: InferRequest, deadline: float | None) -> Ran:
        """The answer to a request, remembered or computed; `deadline` is in the running loop's time."""
        sizes = self.signature.check(request.inputs)
        self.signature.check_outputs(request.outputs)
        responses = None if request.cache == "bypass" else self.responses
        if responses is None:
            if request.cache == "only" and self.backend is not None:
                raise NotCached(
                    f"answers of model {self.name!r} are not remembered, and it asked for no other"
                )
            if not self.recorder.is_on:
                return await self._run(request, sizes, deadline)
        key = key_of(self.step.digest, request.inputs, request.outputs, request.parameters, request.tenant)
        if responses is None:
            ran = await self._run(request, sizes, deadline)
        else:
            name = name_of(self.name, self.version, request.tenant, key)
            ran = await responses.get_or_run(
                name, lambda: self._run(request, sizes, deadline), request.cache, deadline
            )
            labels = (self.name, self.version, ran.timings.tier)
            metrics.count(CACHE_REQUESTS, labels)
            if ran.timings.saved_s:
                metrics.count(CACHE_SAVED, labels, ran.timings.saved_s)
        if self.recorder.is_on:
            self.recorder.note(key, ran)
        return ran

    async def _run(self, request: InferRequest, sizes: Sizes, deadline: float | None) -> Ran:
        self.seen.count(sizes)
        if self.sample is not None:
            self.sample.note(request.inputs)
        return await self.compute(request, sizes, deadline)

    def turned_away(self, requests: int) -> None:
        """So many were refused on their way here, which more replicas would have answered."""
        if isinstance(self.backend, Replicas):
            self.backend.turned_away(requests)
        for step in self.steps:
            step.turned_away(requests)

    def usual_s(self) -> float:
        """What one more usual request adds to the wait when many wait; 0 as long as nobody knows."""
        if self.backend is not None:
            return self.backend.usual_s()
        return max((step.usual_s() for step in self.steps), default=0.0)

    async def close(self) -> None:
        if self.backend is not None:
            await self.backend.close()
        if self.responses is not None:
            await self.responses.close()


def by(backend: Backend) -> Compute:
    """What a model's backend computes."""

    async def compute(request: InferRequest, sizes: Sizes, deadline: float | None) -> Ran:
        return await backend.infer(
            request.inputs, sizes, request.outputs, deadline, request.priority, request.traced
        )

    return compute


def one_after_the_other(steps: Sequence[Served]) -> Compute:
    """Each step's inputs by name, from the answers before it or from the request; only what a step really
    computes takes its engine's time."""

    async def compute(request: InferRequest, _: Sizes, deadline: float | None) -> Ran:
        known = dict(request.inputs)
        timings = Timings()
        for step in steps:
            inputs = {spec.name: known[spec.name] for spec in step.signature.inputs}
            wanted = request.outputs if step is steps[-1] else ()
            part = replace(request, model=step.name, version=step.version, inputs=inputs, outputs=wanted)
            try:
                ran = await step.infer(part, deadline)
            except TensorRejected as err:
                raise TensorRejected(f"step {step.name!r}: {err}") from err
            known |= ran.outputs
            timings = _together(timings, step.name, ran.timings)
        return Ran(ran.outputs, timings)

    return compute


def _together(so_far: Timings, name: str, step: Timings) -> Timings:
    return Timings(
        queued_s=so_far.queued_s + step.queued_s,
        ran_s=so_far.ran_s + step.ran_s,
        batch_rows=max(so_far.batch_rows, step.batch_rows),
        padded_s=so_far.padded_s + step.padded_s,
        held_s=so_far.held_s + step.held_s,
        hop_s=so_far.hop_s + step.hop_s,
        batches=so_far.batches + step.batches,
        steps=(*so_far.steps, (name, step.tier)),
    )
