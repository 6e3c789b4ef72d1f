"""The machine that a baseline was recorded on: figures of another one cannot be held against it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engines.cpu import cpu_cores, cpu_flags, cpu_model
from headrace.errors import EngineUnavailable

LIBRARIES = ("numpy", "onnxruntime", "openvino", "ray", "torch")
_GIB = 1 << 30
_PATIENCE_S = 10.0
_START_S = 60.0  # of an interpreter and what it imports
_LIST_GPUS = ("--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits")


class Gpu(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str
    memory_mib: int = Field(ge=0)
    driver: str


class Fingerprint(BaseModel):
    """What speed depends on, apart from the model."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    cpu: str
    cores: int = Field(ge=1)  # that this process may use
    cpu_flags: tuple[str, ...]  # instructions that engines choose their kernels by
    memory_gib: int = Field(ge=0)
    gpus: tuple[Gpu, ...] = ()
    system: str  # with the kernel's release
    python: str
    libraries: Mapping[str, str]  # versions of those that are installed


def fingerprint() -> Fingerprint:
    """This machine, and what this Python has installed."""
    return Fingerprint(
        cpu=cpu_model(),
        cores=cpu_cores(),
        cpu_flags=cpu_flags(),
        memory_gib=_memory_gib(),
        gpus=_gpus(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        libraries=_installed(),
    )


def fingerprint_of(python: Path) -> Fingerprint:
    """The same as another environment's interpreter sees it; EngineUnavailable when it cannot run us."""
    try:
        done = subprocess.run(  # noqa: S603  the user names it, no shell
            [str(python), "-m", "rollout.fingerprint"],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)},
            capture_output=True,
            text=True,
            timeout=_START_S,
            check=True,
        )
        return Fingerprint.model_validate_json(done.stdout)
    except (OSError, subprocess.SubprocessError, ValidationError) as err:
        said = (getattr(err, "stderr", None) or str(err)).strip().splitlines()[-1:]
        raise EngineUnavailable(
            f"{python.name} of the other environment cannot run Headrace: {''.join(said)}. It needs "
            "pydantic, PyYAML, numpy, ml-dtypes and the engine's library"
        ) from err


def differences(before: Fingerprint, now: Fingerprint) -> list[str]:
    """In words, what is not as it was; empty when figures of the two can be compared."""
    first, second = (_flat(entry) for entry in (before, now))
    return [
        f"{name} was {first.get(name, 'not there')}, now {second.get(name, 'not there')}"
        for name in dict.fromkeys([*first, *second])
        if first.get(name) != second.get(name)
    ]


def parse_gpus(text: str) -> tuple[Gpu, ...]:
    """What nvidia-smi tells in CSV; lines that are something else are left out."""
    found = []
    for line in text.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == 3:  # name, memory, driver
            memory = int(parts[1]) if parts[1].isdigit() else 0
            found.append(Gpu(name=parts[0], memory_mib=memory, driver=parts[2]))
    return tuple(found)


def _flat(entry: Fingerprint) -> dict[str, str]:
    told = {
        "the CPU": entry.cpu,
        "the number of cores": str(entry.cores),
        "the CPU's instructions": " ".join(entry.cpu_flags) or "unknown",
        "memory": f"{entry.memory_gib} GiB",
        "the system": entry.system,
        "Python": entry.python,
    }
    gpus = {f"GPU {number}": f"{gpu.name}, driver {gpu.driver}" for number, gpu in enumerate(entry.gpus)}
    return {**told, **gpus, **entry.libraries}


def _gpus() -> tuple[Gpu, ...]:
    """None where there is no driver: the driver brings the command."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return ()
    try:
        done = subprocess.run(  # noqa: S603  found on PATH, no shell
            [command, *_LIST_GPUS], capture_output=True, text=True, timeout=_PATIENCE_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    return parse_gpus(done.stdout)


def _installed() -> dict[str, str]:
    found = {}
    for library in LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return found


def _memory_gib() -> int:
    """Rounded, since what the kernel keeps for itself differs from boot to boot; 0: unknown."""
    if not Path("/proc").exists():
        return 0
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB)


if __name__ == "__main__":
    print(fingerprint().model_dump_json())
