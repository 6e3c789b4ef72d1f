"""Room: memory, shared memory, open files, disk."""

from __future__ import annotations

import resource
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from deployments import app
from deployments.doctor.check import Check, bad, ok, unless, warn
from engines.artifact import Repository
from headrace.config import Config
from headrace.room import available_bytes
from monitoring.glyphs import size

MIN_SHM = 256 << 20
MIN_MEMORY = 2 << 30  # Ray, two gateways and a small model
MIN_FILES = 1024  # of Ray alone
GOOD_FILES = 8192  # a connection of each caller is two in HAProxy and one in a gateway
MIN_DISK = 1 << 30
RAY_FULL = 0.95  # of a disk: Ray then puts nothing there any more
_COPIES = 2.5  # of a model's files that an engine has in memory


def checks(config: Config | None) -> Iterator[Check]:
    """`config` is pinned."""
    available = available_bytes()
    yield memory(available)
    if config is not None:
        yield models(config, available)
    yield shared_memory(Path("/dev/shm"))  # noqa: S108 - asked for its size only
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield open_files(soft, hard)
    yield disk("disk of Ray's files", Path(tempfile.gettempdir()))
    if config is not None and Path(config.repository).exists():
        yield disk("disk of the repository", Path(config.repository))


def memory(available: int) -> Check:
    advice = "a server with a small model takes about 2 GiB: give the container more, or end something"
    return unless(available >= MIN_MEMORY, "warn", "memory", f"{size(available)} available", advice)


def models(config: Config, available: int) -> Check:
    """What engines of a pinned configuration take together, estimated by their files."""
    repository = Repository(Path(config.repository))
    wanted = sum(
        setup.instances * repository.manifest(model, version).size_bytes()
        for model, versions in app.setups(config).items()
        for version, setup in versions.items()
    )
    told = f"about {size(_COPIES * wanted)} for engines"
    advice = f"{size(available)} are available: fewer instances, smaller versions (INT8), or more machines"
    return unless(_COPIES * wanted <= available, "warn", "memory of models", told, advice)


def shared_memory(folder: Path) -> Check:
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return ok("shared memory", "not used on this system")
    advice = "Ray keeps large tensors there: give a container --shm-size=1g or more"
    return unless(free >= MIN_SHM, "bad", "shared memory", f"{free >> 20} MiB free", advice)


def open_files(soft: int, hard: int) -> Check:
    told = "no limit" if soft == resource.RLIM_INFINITY else f"{soft:,}"
    if soft == resource.RLIM_INFINITY or soft >= GOOD_FILES:
        return ok("open files", told)
    can = hard == resource.RLIM_INFINITY or hard >= GOOD_FILES
    how = f"ulimit -n {GOOD_FILES}" if can else "ask for more in /etc/security/limits.conf (nofile)"
    advice = f"each caller's connection takes three: {how} in the shell that starts the server"
    return bad("open files", told, advice) if soft < MIN_FILES else warn("open files", told, advice)


def disk(name: str, folder: Path) -> Check:
    try:
        usage = shutil.disk_usage(folder)
    except OSError as err:
        return bad(name, f"cannot be asked: {err.strerror}", "see whether what it is mounted from is well")
    told = f"{size(usage.free)} free of {size(usage.total)}"
    if usage.free < MIN_DISK:
        return bad(name, told, "make room: logs, spilled objects and versions go there")
    is_fine = usage.free >= (1 - RAY_FULL) * usage.total  # what is kept for root counts as used
    return unless(
        is_fine, "warn", name, told, f"Ray puts nothing on a disk that is {RAY_FULL:.0%} full: make room"
    )
