"""Headrace itself, inline and without its cache, so that every request is computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from benchmarks.servers.base import HOST, Contender, Setup, Task
from deployments.load import infer_request
from deployments.ports import free_ports
from deployments.serving import serving as headrace
from engines.artifact import Artifact
from headrace.config import BatchingConfig, CacheConfig, Config, HttpConfig, ModelConfig

# How Headrace is set up, here and nowhere else; of several the best is found as for other servers.
TEXT = (
    Setup(workers=2, threads=1, batch=8, permits=1),
    Setup(workers=2, threads=1, batch=16, permits=1),
    Setup(workers=1, threads=1, batch=8, permits=2),
)
IMAGES = (
    Setup(workers=2, threads=1, batch=1, permits=1),
    Setup(workers=2, threads=1, batch=8, permits=1),
)
OCR = IMAGES


def requests(task: Task) -> list[bytes]:
    name = task.artifact.manifest.name
    return [infer_request(HOST, name, inputs) for inputs in task.requests]


def config(artifact: Artifact, setup: Setup, port: int) -> Config:
    """One model version behind `setup.workers` gateways, each with an engine in it."""
    manifest = artifact.manifest
    model = ModelConfig(
        versions=[manifest.version],
        threads=setup.threads,
        batching=BatchingConfig(max_batch=setup.batch, permits=setup.permits),
    )
    return Config(
        repository=str(artifact.folder.parent.parent),
        gateways=setup.workers,
        http=HttpConfig(host=HOST, port=port),
        cache=CacheConfig(enabled=False),
        models={manifest.name: model},
    )


@contextmanager
def _serving(artifact: Artifact, setup: Setup) -> Iterator[int]:
    (port,) = free_ports(1)
    with headrace(config(artifact, setup, port)):
        yield port


def contender(setups: Sequence[Setup]) -> Contender:
    """The task's own version."""
    return Contender(
        "headrace", "Headrace", setups, requests, lambda task, setup: _serving(task.artifact, setup)
    )


def smaller(artifact: Artifact, setups: Sequence[Setup], tolerance: float) -> Contender:
    """The same requests to another version of the model, whose answers may be `tolerance` away."""
    return Contender(
        "int8",
        "Headrace, INT8",
        setups,
        requests,
        lambda _, setup: _serving(artifact, setup),
        tolerance=tolerance,
    )
