"""GPUs: the driver, what there is and what is free, and the libraries that would use them."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from deployments.doctor.check import Check, bad, ok, unless
from headrace.config import Config
from monitoring.glyphs import size

_LEAST_FREE = 0.1  # of a GPU's memory
_LIBRARIES = ("tensorrt", "pycuda", "cuda.bindings")


def checks(config: Config | None) -> Iterator[Check]:
    wanted = [] if config is None else [name for name, model in config.models.items() if model.num_gpus]
    with _nvml() as (nvml, why):
        if nvml is None:
            yield none(wanted, why)
            return
        yield ok("driver", f"{nvml.nvmlSystemGetDriverVersion()}, CUDA up to {_cuda(nvml)}")
        count = nvml.nvmlDeviceGetCount()
        if not count:
            yield none(wanted, "the driver sees none")
        for index in range(count):
            yield device(nvml, index)
    if count:
        yield from map(library, _LIBRARIES)


def none(wanted: list[str], why: str) -> Check:
    """Without a GPU: bad only where the configuration asks for one."""
    if not wanted:
        return ok("GPU", f"none ({why}): models run on the CPU")
    advice = f"{', '.join(wanted)} asks for GPUs (num_gpus): install NVIDIA's driver, or take that out"
    return bad("GPU", f"none ({why})", advice)


def device(nvml: Any, index: int) -> Check:
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        name = nvml.nvmlDeviceGetName(handle)
        major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    except nvml.NVMLError as err:
        return bad(f"GPU {index}", f"does not answer: {err}", "see nvidia-smi and the kernel's log (dmesg)")
    free, total = int(memory.free), int(memory.total)
    told = f"{name}, compute capability {major}.{minor}, {size(free)} of {size(total)} free"
    advice = "something else holds its memory: nvidia-smi says which process"
    return unless(free >= _LEAST_FREE * total, "warn", f"GPU {index}", told, advice)


def library(name: str) -> Check:
    try:
        found = importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # of the package around it
        found = False
    told = "installed" if found else "missing"
    return unless(found, "warn", name, told, "pip install 'headrace[gpu]', or the GPU image")


def _cuda(nvml: Any) -> str:
    version = int(nvml.nvmlSystemGetCudaDriverVersion())
    return f"{version // 1000}.{version % 1000 // 10}"


@contextmanager
def _nvml() -> Iterator[tuple[Any, str]]:
    """NVIDIA's library for as long as the block runs, or why it cannot be had."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as err:
        yield None, str(err)
        return
    try:
        yield pynvml, ""
    finally:
        pynvml.nvmlShutdown()
