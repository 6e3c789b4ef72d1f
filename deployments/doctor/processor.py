"""The processor: what it computes fast, how much of it there is, and who asks for more than that."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from deployments import app
from deployments.doctor.check import Check, ok, unless, warn
from engines.cpu import cpu_cores, cpu_flags, cpu_model
from headrace.config import Config

# What makes each of them fast, best first. Without it INT8 is smaller, yet hardly faster.
INT8_FLAGS = {
    "amx_int8": "AMX",
    "avx512_vnni": "AVX-512 VNNI",
    "avx_vnni": "AVX VNNI",
    "i8mm": "I8MM",
    "asimddp": "dot product",
}
BF16_FLAGS = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512 BF16", "bf16": "BF16"}
FP32_FLAGS = {"avx512f": "AVX-512", "avx2": "AVX2", "sve2": "SVE2", "sve": "SVE", "asimdhp": "NEON"}
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_CGROUP = Path("/sys/fs/cgroup")


def checks(config: Config | None) -> Iterator[Check]:
    """`config` is pinned."""
    flags = set(cpu_flags())
    yield ok("processor", cpu_model())
    yield fp32(flags)
    yield int8(flags)
    yield bf16(flags)
    cores, quota = cpu_cores(), quota_of(_CGROUP)
    yield cores_to_use(cores, os.cpu_count() or cores, quota)
    yield thread_variables(os.environ, cores)
    if config is not None:
        yield from asked_for(config, cores)


def fp32(flags: set[str]) -> Check:
    advice = "engines fall back to slow kernels, and some die here: use a processor with AVX2 (since 2013)"
    return unless(bool(flags & FP32_FLAGS.keys()), "warn", "FP32", _named(flags, FP32_FLAGS), advice)


def int8(flags: set[str]) -> Check:
    advice = "INT8 models are smaller here, but hardly faster: this CPU has no integer dot product"
    return unless(bool(flags & INT8_FLAGS.keys()), "warn", "INT8", _named(flags, INT8_FLAGS), advice)


def bf16(flags: set[str]) -> Check:
    """BF16 models run anywhere, so that this is never worse than ok."""
    found = _named(flags, BF16_FLAGS)
    return ok("BF16", found if flags & BF16_FLAGS.keys() else "none: BF16 saves room here, but no time")


def cores_to_use(cores: int, there: int, quota: float | None) -> Check:
    told = f"{cores}" if cores == there else f"{cores} of the machine's {there}"
    if quota is not None and quota < cores:
        advice = (
            f"the container may use {quota:g} cores' time, and threads past that are stopped for a while in "
            f"the middle of a batch: give it whole cores, or models no more than {max(1, int(quota))} threads"
        )
        return warn("cores", f"{told}, but no more than {quota:g} of their time", advice)
    return ok("cores", told)


def quota_of(folder: Path) -> float | None:
    """Cores' time that a container gets at most; None: no limit."""
    try:
        quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        try:
            quota = (folder / "cpu" / "cpu.cfs_quota_us").read_text(encoding="ascii").strip()
            period = (folder / "cpu" / "cpu.cfs_period_us").read_text(encoding="ascii").strip()
        except OSError:
            return None
    return int(quota) / int(period) if quota.isdecimal() and int(period) else None


def thread_variables(environment: Mapping[str, str], cores: int) -> Check:
    found = {name: environment[name] for name in THREADS if name in environment}
    told = ", ".join(f"{name}={value}" for name, value in found.items()) or "none set"
    many = [name for name, value in found.items() if not value.isdecimal() or int(value) > cores]
    advice = f"more threads than the {cores} cores here wait for each other: unset {' '.join(many)}"
    return unless(not many, "warn", "thread variables", told, advice)


def asked_for(config: Config, cores: int) -> Iterator[Check]:
    """Whether engines have a core for each of their threads."""
    for model, versions in app.setups(config).items():
        for version, setup in versions.items():
            threads = setup.instances * setup.cores
            told = f"{setup.instances} with {setup.cores} threads each, on {cores} cores"
            advice = f"engines wait for each other: fewer threads or instances, or headrace tune {model}"
            if config.models[model].placement == "replicas":
                advice += "; on a cluster of several nodes this is as it should be"
            yield unless(threads <= cores, "warn", f"{model}/{version}", told, advice)


def _named(flags: set[str], names: Mapping[str, str]) -> str:
    return ", ".join(name for flag, name in names.items() if flag in flags) or "none"
