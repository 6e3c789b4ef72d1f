"""Memory that this process may still take: the machine's, or its container's."""

from __future__ import annotations

from pathlib import Path

import psutil

_CGROUPS = Path("/sys/fs/cgroup")
_NO_LIMIT = 1 << 60  # cgroup v1 says so by a number near 2**63


def available_bytes(cgroups: Path = _CGROUPS) -> int:
    """What is free on the machine, or what its container has left if that is less."""
    free = int(psutil.virtual_memory().available)
    left = left_in(cgroups)
    return free if left is None else min(free, left)


def left_in(cgroups: Path) -> int | None:
    """What a container has not used of its limit; None: it has no limit.

    Pages of files that were read count as used there, and are given up when memory is wanted.
    """
    for limit, used, folder in (
        ("memory.max", "memory.current", cgroups),  # version 2
        ("memory.limit_in_bytes", "memory.usage_in_bytes", cgroups / "memory"),
    ):
        try:
            most = (folder / limit).read_text(encoding="ascii").strip()
            taken = int((folder / used).read_text(encoding="ascii"))
        except (OSError, ValueError):
            continue
        if not most.isdecimal() or int(most) >= _NO_LIMIT:
            return None
        return max(0, int(most) - max(0, taken - _given_up(folder)))
    return None


def _given_up(folder: Path) -> int:
    """Pages of files that nobody has used of late."""
    try:
        lines = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    found = dict(line.split() for line in lines if len(line.split()) == 2)
    return int(found.get("total_inactive_file", found.get("inactive_file", 0)))
