"""One model version in this process: batcher -> @serve.batch -> engine, on a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from ray import serve
from ray.serve.exceptions import RayServeException

from autoscaling.reports import Cost, ReplicaReport
from batching.admission import Load
from batching.batcher import Batcher
from batching.execute import Batch, Result, run_group
from batching.queue import Item
from batching.service import ServiceTime
from batching.shapes import Sizes, elements
from batching.threads import EngineThreads
from deployments import logs, metrics, profiled
from deployments.figures import Teller
from deployments.setup import Setup, setup_of
from deployments.tracing import BatchSpans, Packed, Tracing, open_tracing, report_losses, unpacked
from deployments.watch import settle_memory, watch
from engines.artifact import Artifact, Repository
from engines.base import Engine, LosableEngine, RequestEngine
from engines.cpu import cpu_cores
from engines.examples import example_inputs
from engines.load import load
from engines.manifest import Manifest
from engines.numa import settle
from headrace.config import BatchingConfig, Config
from headrace.errors import EngineFailed, HeadraceError, TensorRejected
from headrace.requests import Ran
from headrace.tensors import TensorMap
from headrace.trace import Traced
from monitoring.recorder import Seconds
from monitoring.told import Told
from profiling.probe import Probe

_log = logging.getLogger(__name__)


class ModelHost:
    """An engine with its batcher; a batch passes through `@serve.batch` on its way to the engine.

    There is one lane, a function under `@serve.batch`, per permit: at most one group is in a lane at
    a time, so that Serve's queue can neither split a group nor mix two.
    """

    def __init__(
        self, artifact: Artifact, setup: Setup, seconds: Seconds, tracing: Tracing | None = None
    ) -> None:
        """`seconds` is where it tells of its batches, and `tracing`, if traces are on."""
        self._seconds = seconds
        self.artifact = artifact
        self.signature = artifact.manifest.signature
        self.setup = setup
        self._batching = setup.batching
        self._names = (artifact.manifest.name, artifact.manifest.version)
        self._spans = None if tracing is None else BatchSpans(tracing, *self._names)
        # The engine's own threads are started by these, so they keep to the same cores.
        self._threads = EngineThreads(self._batching.permits, partial(settle, setup.cores, _local_rank()))
        self._probe: Probe | None = None  # while it is profiled

    async def start(self) -> None:
        """Load the engine and warm it up, both on the engine's own thread."""
        self._engine: Engine = await self._threads.call(self._load)
        service = await self._threads.call(known_times, self._engine, self.artifact, self.setup)
        self._lanes = [self._lane(permit) for permit in range(self._batching.permits)]
        self._batcher = Batcher(
            self.signature, self._run_group, self._batching, service, self._observe, self._run_now
        )

    def _load(self) -> Engine:
        batching = self._batching
        return load(
            self.artifact,
            self.setup.threads,
            batching.permits,
            max_batch=batching.max_batch,
            buckets=self.setup.buckets(self.signature),
            gpu_share=self.setup.gpu_share,
        )

    async def infer(
        self,
        inputs: TensorMap,
        sizes: Sizes,
        outputs: tuple[str, ...],
        deadline: float | None,
        priority: int = 0,
        trace: Traced | None = None,
    ) -> Ran:
        if self._probe is None:
            return await self._batcher.submit(inputs, sizes, outputs, deadline, priority, trace)
        with self._probe.request():
            return await self._batcher.submit(inputs, sizes, outputs, deadline, priority, trace)

    @contextmanager
    def probed(self, probe: Probe, engine: Engine) -> Iterator[None]:
        """Within the block `probe` is told of requests and batches, and `engine` runs them, from the next
        batch of each thread on."""
        ordinary = self._engine
        self._probe, self._engine = probe, engine
        try:
            yield
        finally:
            self._probe, self._engine = None, ordinary

    @property
    def engine(self) -> Engine:
        return self._engine

    @property
    def threads(self) -> int:
        """Of the engine."""
        return self.setup.threads

    @property
    def num_waiting_rows(self) -> int:
        return self._batcher.num_waiting_rows

    @property
    def queue_fill(self) -> float:
        return self._batcher.queue_fill

    def oldest_s(self) -> float:
        return self._batcher.load().oldest_s

    def usual_s(self) -> float:
        return self._batcher.usual_s()

    def gathering(self) -> AbstractContextManager[None]:
        """Within the block requests are taken in, and only then the first batch is made of all of them."""
        return self._batcher.gathering()

    def load(self) -> Load:
        """What there is to do here, as far as batches are known."""
        return self._batcher.load()

    def hung(self) -> float | None:
        """The seconds that a batch has run for, when the engine must have hung."""
        return self._batcher.hung()

    def is_lost(self) -> bool:
        """Whether the engine is of no use any more."""
        return isinstance(self._engine, LosableEngine) and self._engine.is_lost

    def abandon(self, why: str, *, is_hung: bool) -> None:
        self._batcher.abandon(why, is_hung=is_hung)

    async def close(self) -> None:
        """Answer what was accepted, then let go of the engine."""
        await self._batcher.close()
        await self._threads.call(self._engine.close)
        self._threads.close()

    def _lane(self, permit: int) -> Any:
        async def run_batch(groups: list[Sequence[Item]]) -> list[list[Result]]:
            return [await self._on_thread(group, permit) for group in groups]

        # The name is the label of Serve's own batch metrics.
        run_batch.__name__ = "{}_{}_lane{}".format(*self._names, permit)
        lane = serve.batch(
            max_batch_size=self._batching.max_batch, batch_wait_timeout_s=0, batch_size_fn=_num_rows
        )
        return lane(run_batch)

    def _run_now(self, items: Sequence[Item]) -> list[Result]:
        results = self._ran(items)
        return results if self._spans is None else self._spans.noted(items, results)

    def _ran(self, items: Sequence[Item]) -> list[Result]:
        engine, probe = self._engine, self._probe
        each = engine.run_each if isinstance(engine, RequestEngine) else None
        if probe is None:
            return run_group(engine.run, self.signature, items, each=each)
        run = probe.mark("engine", engine.run)
        each = None if each is None else probe.mark("engine", each)
        return probe.mark("batch", run_group)(run, self.signature, items, each=each, mark=probe.mark)

    def _on_thread(self, items: Sequence[Item], permit: int) -> asyncio.Future[list[Result]]:
        return self._threads.call(self._batcher.run_on, self._run_now, items, permit)

    async def _run_group(self, items: Sequence[Item], permit: int) -> Sequence[Result]:
        if len(items) == 1:  # no batch: Serve's queue would only delay it
            return await self._on_thread(items, permit)
        results: list[Result] = await self._lanes[permit](items)
        return results

    def _observe(self, batch: Batch, waited_s: float) -> None:
        if self._probe is not None:
            self._probe.batch(batch.rows, batch.fill, batch.ran_s)
        group = (*self._names, batch.group)
        self._seconds.ran(group, batch.rows, batch.useful, batch.elements, batch.ran_s, waited_s)


def _num_rows(groups: Sequence[Sequence[Item]]) -> int:
    return sum(item.rows for group in groups for item in group)


def known_times(engine: Engine, artifact: Artifact, setup: Setup) -> ServiceTime:
    """Warm the engine up; what batches take by the manifest's table, then as the warm-up ran here."""
    manifest = artifact.manifest
    inputs = manifest.signature.inputs
    points = measured_points(manifest, setup)
    engine.warm_up()
    for sizes in (*manifest.warm_up, *bucket_sizes(setup.batching, manifest.warm_up)):
        example = example_inputs(manifest.signature, sizes)
        started = time.perf_counter()
        try:
            engine.run(example)
        except TensorRejected:  # larger than what an engine for certain shapes was built for
            continue
        ran_s = time.perf_counter() - started
        found = manifest.signature.check(example)
        points.append((float(found.get("batch", 1) * elements(inputs, found)), ran_s))
    return ServiceTime(points)


def measured_points(manifest: Manifest, setup: Setup) -> list[tuple[float, float]]:
    """Elements and seconds of the batches in the manifest's table."""
    return [
        (float(entry.batch * elements(manifest.signature.inputs, entry.sizes)), entry.median_ms / 1000)
        for entry in manifest.latencies
        if entry.threads == setup.threads
    ]


def known_cost(manifest: Manifest, setup: Setup) -> Cost:
    """What a replica takes for requests by the manifest's table; nothing when that says nothing."""
    service = ServiceTime(measured_points(manifest, setup))
    batching = setup.batching
    return Cost(
        service.base_s, service.per_element_s, float(batching.max_batch), permits=float(batching.permits)
    )


def bucket_sizes(batching: BatchingConfig, warm_up: Sequence[Mapping[str, int]]) -> list[dict[str, int]]:
    """Each bucket that requests are padded to, alone and in a full batch; what a bucket does not name is as
    in the manifest's last warm-up."""
    if batching.grouping != "buckets":
        return []
    base = dict(warm_up[-1]) if warm_up else {}
    return [
        {**base, **bucket, "batch": rows} for bucket in batching.buckets for rows in (1, batching.max_batch)
    ]


def _local_rank() -> int:
    """Which of the replicas on this node this process is; 0 outside of Serve."""
    try:
        return int(serve.get_replica_context().rank.local_rank)
    except RayServeException:
        return 0


class ModelReplica:
    """A deployment of one model version for placement "replicas": packed requests in, answers out."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it: ready means loaded and warm
        self, config: dict[str, Any], model: str, version: str
    ) -> None:
        started = time.monotonic()
        document = Config.model_validate(config)
        if not document.monitoring:
            metrics.turn_off()
        artifact = Repository(Path(document.repository)).open(model, version)
        entry = document.models[model]
        setup = setup_of(entry, artifact.manifest, entry.max_replicas, cpu_cores())
        queues: dict[tuple[str, str], ModelHost] = {}
        logs.set_up(document.logs, "replica")
        self._tracing = open_tracing(document.tracing, "replica")
        self._id = uuid.uuid4().hex[:12]
        self._teller = Teller(self._id, "replica", queues, (model, version))
        self._host = queues[model, version] = ModelHost(artifact, setup, self._teller.seconds, self._tracing)
        await self._host.start()
        self._tasks = [
            asyncio.create_task(self._teller.report()),
            asyncio.create_task(watch([self._host])),
            asyncio.create_task(report_losses(self._tracing)),
        ]
        settle_memory()
        self._loaded_s = time.monotonic() - started

    async def figures_since(self, since: int) -> Told:
        """For the monitor: what this replica did from a second (Unix time) on."""
        return self._teller.told(since)

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """For the autoscaling policy; Serve asks twice a second."""
        load = self._host.load()
        permits = self._host.setup.batching.permits
        return ReplicaReport(0.0, **asdict(load), permits=permits, loaded_s=self._loaded_s).numbers()

    async def profile(
        self, tool: str, seconds: float, replica: str, id: str
    ) -> dict[str, Any] | HeadraceError | None:
        """See Gateway.profile; nothing, unless this is the `replica`. `id` is the profile's."""
        if replica != self._id:
            return None
        try:
            return await profiled.take(self._host, tool, seconds, "replica", id)
        except HeadraceError as err:
            return err

    async def end_profile(self, id: str) -> None:
        """Who asked for the profile with this id has left."""
        profiled.end_early(id)

    async def __del__(self) -> None:
        for task in self._tasks:
            task.cancel()
        await self._host.close()
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.close)

    async def infer_packed(
        self,
        requests: list[tuple[dict[str, Any], tuple[str, ...], float | None, int, Packed | None]],
        group: str = "",
    ) -> list[Ran | HeadraceError]:
        """One answer or error per (inputs, outputs, seconds left until its deadline, priority, trace).

        `group` is there for the router, which has brought them here by it.
        """
        answers = asyncio.gather(*(self._infer(*request) for request in requests))
        if len(requests) > 1:
            with self._host.gathering():  # else an idle engine would run the first one alone
                await asyncio.sleep(0)
        return await answers

    async def _infer(
        self,
        inputs: dict[str, Any],
        outputs: tuple[str, ...],
        left_s: float | None,
        priority: int,
        trace: Packed | None = None,
    ) -> Ran | HeadraceError:
        now = asyncio.get_running_loop().time()
        deadline = None if left_s is None else now + left_s
        try:
            sizes = self._host.signature.check(inputs)
            traced = trace and unpacked(trace, now)
            return await self._host.infer(inputs, sizes, outputs, deadline, priority, traced)
        except HeadraceError as err:
            return err
        except Exception:  # one request must not take the others of its pack with it
            _log.exception("a request failed")
            return EngineFailed("the replica failed on this request; its log says why")
