"""What this process takes of its machine: CPU, memory, GPUs."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class Gpu:
    """As its driver tells it: of the whole device, whoever uses it."""

    index: int
    name: str
    utilization: float  # 0 to 1
    memory_bytes: int
    memory_total_bytes: int


@dataclass(frozen=True, slots=True)
class Process:
    node: str
    pid: int
    cpu: float  # cores, since the last look
    memory_bytes: int  # resident
    threads: int
    gpus: tuple[Gpu, ...] = ()


class Watch:
    """Looks at the process it is made in. `gpus` are the indices of those that it may use."""

    def __init__(self, node: str, gpus: tuple[int, ...] = ()) -> None:
        self._node = node
        self._process = psutil.Process()
        self._devices = _devices(gpus)
        self._at, self._cpu_s = time.monotonic(), self._seconds()
        self._cpu = 0.0

    def look(self) -> Process:
        """What it takes now; its CPU as the mean since the last look, or since a second ago."""
        now = time.monotonic()
        if now - self._at >= 1.0:
            cpu_s = self._seconds()
            self._cpu = (cpu_s - self._cpu_s) / (now - self._at)
            self._at, self._cpu_s = now, cpu_s
        with self._process.oneshot():
            memory, threads = self._process.memory_info().rss, self._process.num_threads()
        gpus = tuple(gpu for device in self._devices if (gpu := _look_at(device)) is not None)
        return Process(self._node, os.getpid(), self._cpu, memory, threads, gpus)

    def _seconds(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)


def _devices(indices: tuple[int, ...]) -> list[tuple[int, object]]:
    """Handles of the driver's; none where there is no driver."""
    if not indices:
        return []
    import pynvml

    try:
        pynvml.nvmlInit()
        return [(index, pynvml.nvmlDeviceGetHandleByIndex(index)) for index in indices]
    except pynvml.NVMLError:
        return []


def _look_at(device: tuple[int, object]) -> Gpu | None:
    """None: its driver does not tell."""
    import pynvml

    index, handle = device
    try:
        memory, name = pynvml.nvmlDeviceGetMemoryInfo(handle), pynvml.nvmlDeviceGetName(handle)
    except pynvml.NVMLError:
        return None
    try:
        utilization = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
    except pynvml.NVMLError:  # a part of a device (MIG) tells none
        utilization = 0.0
    return Gpu(index, str(name), utilization, int(memory.used), int(memory.total))
