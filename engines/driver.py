"""The NVIDIA driver and its GPUs, looked at from a process of its own: a driver that fails may take the
process with it, and one that works leaves its state behind.

    python -m engines.driver        JSON: the driver's CUDA release and the GPUs, or why there are none
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace.errors import EngineUnavailable

_LIBRARY = "libcuda.so.1"
_PATIENCE_S = 60.0  # the first call after a start may take some seconds
_MAJOR, _MINOR = 75, 76  # attributes of a device: its compute capability
_NAME_BYTES = 100
_SAID = 200  # characters of what a failed process says


@dataclass(frozen=True, slots=True)
class Device:
    name: str
    architecture: str  # compute capability, as "8.9"
    memory_bytes: int

    def part(self, share: float) -> int | None:
        """Bytes of a share of its memory; None, no limit, for all of it."""
        return int(share * self.memory_bytes) if share < 1 else None


@dataclass(frozen=True, slots=True)
class Driver:
    cuda: str  # the newest CUDA release that it runs, as "13.0"
    devices: tuple[Device, ...]


def find_driver(environment: Mapping[str, str] | None = None, least: str = "0.0") -> Driver:
    """The driver and the GPUs that this process may use.

    EngineUnavailable says why there is none, or that it runs no CUDA as new as `least`, and what to do.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", "engines.driver"],
            env=dict(environment or {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}),
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired as err:
        raise EngineUnavailable(f"no GPU: the driver did not answer within {_PATIENCE_S:g} s") from err
    if done.returncode < 0:
        raise EngineUnavailable(
            f"no GPU: the driver ended the process that asked it (signal {-done.returncode})"
        )
    try:
        told = json.loads(done.stdout)
    except ValueError as err:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1][:_SAID]
        raise EngineUnavailable(f"no GPU: the process that asks the driver failed ({said})") from err
    if "why" in told:
        raise EngineUnavailable(f"no GPU: {told['why']}")
    driver = Driver(told["cuda"], tuple(Device(**device) for device in told["devices"]))
    if _number(driver.cuda) < _number(least):
        raise EngineUnavailable(
            f"the driver runs CUDA {driver.cuda} at most, and CUDA {least} is needed: install a newer driver"
        )
    return driver


def _number(release: str) -> tuple[int, ...]:
    return tuple(map(int, release.split(".")))


def _look() -> dict[str, Any]:
    try:
        cuda = ctypes.CDLL(_LIBRARY)
    except OSError:
        missing = f"there is no NVIDIA driver ({_LIBRARY} is not found)"
        return {"why": f"{missing}; in a container, start it with its GPUs"}
    if status := cuda.cuInit(0):
        return {"why": f"the driver has none for this process (cuInit: {status}); see CUDA_VISIBLE_DEVICES"}
    version, count = ctypes.c_int(), ctypes.c_int()
    cuda.cuDriverGetVersion(ctypes.byref(version))
    cuda.cuDeviceGetCount(ctypes.byref(count))
    if not count.value:
        return {"why": "the driver has none for this process; see CUDA_VISIBLE_DEVICES"}
    release = f"{version.value // 1000}.{version.value % 1000 // 10}"
    return {"cuda": release, "devices": [_device(cuda, number) for number in range(count.value)]}


def _device(cuda: ctypes.CDLL, number: int) -> dict[str, Any]:
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    memory, name = ctypes.c_size_t(), ctypes.create_string_buffer(_NAME_BYTES)
    cuda.cuDeviceGet(ctypes.byref(device), number)
    cuda.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
    cuda.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    cuda.cuDeviceGetName(name, _NAME_BYTES, device)
    return {
        "name": name.value.decode(errors="replace"),
        "architecture": f"{major.value}.{minor.value}",
        "memory_bytes": memory.value,
    }


if __name__ == "__main__":
    print(json.dumps(_look()))
