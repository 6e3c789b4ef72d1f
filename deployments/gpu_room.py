"""Whether replicas find room on a GPU, asked before one starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from deployments.setup import ON_GPUS, Setup
from engines.artifact import Repository
from engines.driver import Device, find_driver
from engines.gpu_memory import Need, least
from engines.gpu_runner import DEPTH
from headrace.config import Config
from headrace.errors import ConfigRejected, EngineUnavailable

_GIB = 1 << 30


def check_memory(config: Config, setups: Mapping[str, Mapping[str, Setup]]) -> None:
    """ConfigRejected when a GPU like the one here has too little memory for a replica of a pinned
    configuration. Where there is none, as on a cluster's head, each replica finds out by itself."""
    repository = Repository(Path(config.repository))
    needs = []
    for name, versions in setups.items():
        for version, setup in versions.items():
            manifest = repository.manifest(name, version)
            if manifest.engine in ON_GPUS:
                buckets = setup.buckets(manifest.signature)
                needs.append((name, least(manifest, setup.batching.max_batch, buckets, DEPTH)))
    if not needs:
        return
    try:
        devices = find_driver().devices
    except EngineUnavailable:
        return
    for name, need in needs:
        refuse_memory(name, config.models[name].num_gpus, need, devices)


def refuse_memory(model: str, num_gpus: float, need: Need, devices: Sequence[Device]) -> None:
    """ConfigRejected when the share of a GPU that a replica gets holds less than it needs, with what is
    allowed. Of unlike GPUs the largest counts: the others' replicas refuse by themselves."""
    largest = max(devices, key=lambda device: device.memory_bytes)
    share = min(1.0, num_gpus)
    if need.total <= share * largest.memory_bytes:
        return
    parts = f"weights {_told(need.weights)}, batches {_told(need.batches)}, CUDA {_told(need.cuda)}"
    told = (
        f"models.{model}.num_gpus is {num_gpus:g}, {_told(int(share * largest.memory_bytes))} of a GPU's "
        f"{_told(largest.memory_bytes)} ({largest.name}); a replica needs at least {_told(need.total)} "
        f"({parts})"
    )
    least = need.total / largest.memory_bytes
    if least <= 1:
        raise ConfigRejected(f"{told}; allowed: {_rounded_up(least):g} or more, or a smaller max_batch")
    raise ConfigRejected(f"{told}, more than the GPU has: take a smaller max_batch, or a larger GPU")


def _rounded_up(share: float) -> float:
    return -(-round(share * 1000) // 10) / 100


def _told(num_bytes: int) -> str:
    return f"{num_bytes / _GIB:.2f} GiB"
