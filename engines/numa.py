"""Cores of one NUMA node for an engine: its threads then find what they use in memory of their own node."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

_NODES = Path("/sys/devices/system/node")


def settle(cores: int, rank: int, folder: Path = _NODES) -> frozenset[int] | None:
    """Keep this thread, and those that it starts from now on, to the cores of one node: of several such
    processes of a machine each says its `rank`, and they spread. None where that gains nothing."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    chosen = choose(nodes(folder, os.sched_getaffinity(0)), cores, rank)
    if chosen is None:
        return None
    try:
        os.sched_setaffinity(0, chosen)
    except OSError:  # a sandbox that does not let it
        return None
    return chosen


def nodes(folder: Path, allowed: Collection[int]) -> list[frozenset[int]]:
    """The cores of each node that may be used; nodes without any are left out."""
    found = []
    for path in sorted(folder.glob("node[0-9]*"), key=lambda path: int(path.name.removeprefix("node"))):
        try:
            cores = parse_list((path / "cpulist").read_text())
        except OSError:
            continue
        if usable := cores & set(allowed):
            found.append(frozenset(usable))
    return found


def choose(nodes: Sequence[frozenset[int]], cores: int, rank: int) -> frozenset[int] | None:
    """The node for one of several processes that compute on so many cores each; None when there is but one
    node, or none is large enough."""
    fitting = [node for node in nodes if len(node) >= cores]
    if len(nodes) < 2 or not fitting:
        return None
    places = [node for node in fitting for _ in range(len(node) // max(1, cores))]
    by_turns = sorted(range(len(places)), key=lambda at: (places[:at].count(places[at]), at))
    return places[by_turns[rank % len(places)]]


def parse_list(text: str) -> frozenset[int]:
    """The kernel's way to write numbers, such as "0-3,8"."""
    found: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)
