"""What used the machine's CPUs for a while: this client, HAProxy, the gateways, the rest of Ray."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping

import psutil

KINDS = {"haproxy": "HAProxy", "headrace:Gateway": "gateways"}  # words of a command line


class Shares:
    """From its creation on; a process that ends meanwhile does not count."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._before = dict(_cpu_seconds())

    def ended(self) -> Mapping[str, float]:
        """Shares of all CPUs, by kind."""
        seconds = (time.monotonic() - self._began) * (os.cpu_count() or 1)
        used: defaultdict[str, float] = defaultdict(float)
        for (process, kind), total in _cpu_seconds():
            used[kind] += total - self._before.get((process, kind), 0.0)
        return {kind: amount / seconds for kind, amount in used.items()}


def _cpu_seconds() -> Iterator[tuple[tuple[psutil.Process, str], float]]:
    this = psutil.Process()
    for process in [this, *this.children(recursive=True)]:
        try:
            command = " ".join(process.cmdline())
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        named = [kind for words, kind in KINDS.items() if words in command]
        kind = "client" if process == this else named[0] if named else "the rest of Ray"
        yield (process, kind), times.user + times.system
