"""One model version in this process: batcher -> @serve.batch -> engine, on a thread of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ray import serve

from batching.batcher import Answer, Batcher, run_group
from batching.queue import Item
from batching.shapes import Sizes, can_pad
from deployments import metrics
from engines.artifact import Artifact, Repository
from engines.load import load
from headrace.config import BatchingConfig, Config, ModelConfig
from headrace.errors import EngineFailed, HeadraceError
from headrace.metrics import BATCH_FILL, BATCH_ROWS
from headrace.requests import Ran
from headrace.tensors import TensorMap

_log = logging.getLogger(__name__)


def resolve(batching: BatchingConfig, artifact: Artifact) -> BatchingConfig:
    """`auto` grouping replaced by what the manifest recommends."""
    if batching.grouping != "auto":
        return batching
    manifest = artifact.manifest
    grouping = "nearest" if manifest.grouping == "nearest" and can_pad(manifest.signature) else "exact"
    return batching.model_copy(update={"grouping": grouping})


class ModelHost:
    """An engine with its batcher; every group passes through `@serve.batch` on its way to the engine.

    There is one lane, a function under `@serve.batch`, per permit: at most one group is in a lane at
    a time, so that Serve's queue can neither split a group nor mix two.
    """

    def __init__(self, artifact: Artifact, config: ModelConfig) -> None:
        self.artifact = artifact
        self.signature = artifact.manifest.signature
        self._config = config
        self._batching = resolve(config.batching, artifact)
        self._tags = {"model": artifact.manifest.name, "version": artifact.manifest.version}
        self._threads = ThreadPoolExecutor(self._batching.permits, thread_name_prefix="engine")

    async def start(self) -> None:
        """Load the engine and warm it up, both on the engine's own thread."""
        loop = asyncio.get_running_loop()
        self._engine = await loop.run_in_executor(self._threads, load, self.artifact, self._config.threads)
        await loop.run_in_executor(self._threads, self._engine.warm_up)
        self._lanes = [self._lane(permit) for permit in range(self._batching.permits)]
        self._batcher = Batcher(self.signature, self._run_group, self._batching, self._observe)

    async def infer(
        self, inputs: TensorMap, sizes: Sizes, outputs: tuple[str, ...], deadline: float | None
    ) -> Ran:
        return await self._batcher.submit(inputs, sizes, outputs, deadline)

    @property
    def num_waiting_rows(self) -> int:
        return self._batcher.num_waiting_rows

    async def close(self) -> None:
        """Answer what was accepted, then let go of the engine."""
        await self._batcher.close()
        await asyncio.get_running_loop().run_in_executor(self._threads, self._engine.close)
        self._threads.shutdown(wait=False)

    def _lane(self, permit: int) -> Any:
        async def run_batch(items: list[Item]) -> list[Answer | HeadraceError]:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(
                self._threads, run_group, self._engine.run, self.signature, items
            )

        # The name is the label of Serve's own batch metrics.
        run_batch.__name__ = f"{self._tags['model']}_{self._tags['version']}_lane{permit}"
        return serve.batch(max_batch_size=self._batching.max_batch, batch_wait_timeout_s=0)(run_batch)

    async def _run_group(self, items: Sequence[Item], permit: int) -> Sequence[Answer | HeadraceError]:
        lane = self._lanes[permit]
        answers: list[Answer | HeadraceError] = await asyncio.gather(*(lane(item) for item in items))
        return answers

    def _observe(self, answer: Answer) -> None:
        metrics.histogram(BATCH_ROWS).observe(answer.batch_rows, tags=self._tags)
        metrics.histogram(BATCH_FILL).observe(answer.fill, tags=self._tags)


class ModelReplica:
    """A deployment of one model version for placement "replicas": packed requests in, answers out."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it: ready means loaded and warm
        self, config: dict[str, Any], model: str, version: str
    ) -> None:
        document = Config.model_validate(config)
        artifact = Repository(Path(document.repository)).open(model, version)
        self._host = ModelHost(artifact, document.models[model])
        await self._host.start()
        self._reporter = asyncio.create_task(metrics.report_queues({(model, version): self._host}))

    async def __del__(self) -> None:
        self._reporter.cancel()
        await self._host.close()

    async def infer_packed(
        self, requests: list[tuple[dict[str, Any], tuple[str, ...], float | None]]
    ) -> list[Ran | HeadraceError]:
        """One answer or error per (inputs, outputs, seconds left until its deadline)."""
        return await asyncio.gather(*(self._infer(*request) for request in requests))

    async def _infer(
        self, inputs: dict[str, Any], outputs: tuple[str, ...], left_s: float | None
    ) -> Ran | HeadraceError:
        deadline = None if left_s is None else asyncio.get_running_loop().time() + left_s
        try:
            return await self._host.infer(inputs, self._host.signature.check(inputs), outputs, deadline)
        except HeadraceError as err:
            return err
        except Exception:  # one request must not take the others of its pack with it
            _log.exception("a request failed")
            return EngineFailed("the replica failed on this request; its log says why")
