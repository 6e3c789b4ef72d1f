"""The plain Serve program to compare with: `@serve.batch`, one ONNX session a replica.

It gets limits on concurrency that never bind, and on request the flags that Headrace sets for Ray.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from benchmarks.servers.base import THREADS, Contender, Setup, Task, all_setups, raw_requests
from benchmarks.servers.programs.raw_model import RawModel, Wire
from deployments.cluster import LocalCluster
from deployments.ports import free_ports
from headrace.config import HttpConfig

BATCH_WAIT_S = 0.01  # Serve's own default
requests = raw_requests("/")


class Plain:
    """A row's bytes in, its answer's bytes out."""

    def __init__(self, wire: Wire) -> None:
        self._model = RawModel(wire)
        self._is_batched = wire.batch > 1
        if self._is_batched:
            self.run.set_max_batch_size(wire.batch)

    @serve.batch(batch_wait_timeout_s=BATCH_WAIT_S)  # type: ignore[untyped-decorator]  # Ray is not typed strictly
    async def run(self, bodies: Sequence[bytes]) -> list[bytes]:
        return self._model.answer(bodies)

    async def __call__(self, request: Request) -> Response:
        body = await request.body()
        answer = await self.run(body) if self._is_batched else self._model.answer([body])[0]
        return Response(answer, media_type="application/octet-stream")


def application(wire: Wire, workers: int) -> serve.Application:
    deployment: Any = serve.deployment(
        num_replicas=workers,
        max_ongoing_requests=1024,
        graceful_shutdown_timeout_s=5,
        ray_actor_options={"num_cpus": 1},
        logging_config={"enable_access_log": False},
    )(Plain)
    return deployment.bind(wire)


@contextmanager
def plain(task: Task, setup: Setup) -> Iterator[int]:
    with _serving(task, setup, throughput=False) as port:
        yield port


@contextmanager
def flagged(task: Task, setup: Setup) -> Iterator[int]:
    with _serving(task, setup, throughput=True) as port:
        yield port


@contextmanager
def _serving(task: Task, setup: Setup, throughput: bool) -> Iterator[int]:
    (port,) = free_ports(1)
    with LocalCluster(HttpConfig(port=port), num_cpus=THREADS, throughput=throughput):
        serve.run(application(task.wire(setup), setup.workers), name="plain")
        yield port


def contenders() -> list[Contender]:
    return [
        Contender("plain", "plain Ray Serve", all_setups(), requests, plain),
        Contender("flags", "Ray Serve, our flags", all_setups(), requests, flagged),
    ]
