"""What the processor of this machine offers, as far as engines care."""

from __future__ import annotations

import os
from pathlib import Path

# Instructions that the kernels of CPU engines are chosen by: x86 first, then ARM.
_RELEVANT = frozenset(
    {"avx", "avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni", "avx_vnni_int8"}
    | {"amx_int8", "amx_bf16", "amx_fp16"}
    | {"asimddp", "asimdhp", "bf16", "i8mm", "sve", "sve2"}
)
_CPUINFO = Path("/proc/cpuinfo")


def cpu_flags() -> tuple[str, ...]:
    """The relevant instruction sets of this machine, sorted; empty where /proc/cpuinfo is missing."""
    fields = parse_cpuinfo(_cpuinfo())
    flags = f"{fields.get('flags', '')} {fields.get('Features', '')}".split()
    return tuple(sorted(_RELEVANT.intersection(flags)))


def cpu_model() -> str:
    """The processor's own name, or "unknown"."""
    return parse_cpuinfo(_cpuinfo()).get("model name", "unknown")


def cpu_cores() -> int:
    """The cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def parse_cpuinfo(text: str) -> dict[str, str]:
    """The fields of the first processor in /proc/cpuinfo."""
    first, _, _ = text.partition("\n\n")
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _cpuinfo() -> str:
    try:
        return _CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
