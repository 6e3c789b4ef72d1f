"""py-spy: a flame graph of a process from outside of it."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from bisect import bisect_left
from collections.abc import Mapping
from html import unescape
from pathlib import Path
from typing import Any

from engines.base import Engine
from headrace.errors import ToolFailed
from profiling.commands import find
from profiling.outcome import Found, Raw, Row, Table

FLAMES = "py-spy.svg"
MOST_ROWS = 20
_RATE = 100  # samples a second
_FRAME = re.compile(
    r'<title>([^<]+?) \([\d,]+ samples, [\d.]+%\)</title><rect [^>]*?y="(\d+)"[^>]*fg:x="(\d+)" fg:w="(\d+)"'
)
_LEVEL = 16  # pixels between a frame and what it calls
_GRACE_S = 60.0  # to read symbols, to write the graph
_LOOK_S = 0.05
_BEGUN = b"Sampling process"  # what it says when it takes the first sample
_SPARE_S = 10.0  # it is ended by us
_PR_SET_PTRACER = 0x59616D61
INSTALL = "pip install py-spy"
PERMISSION = (
    "py-spy needs the right to trace (ptrace): in Docker --cap-add SYS_PTRACE; in Kubernetes "
    'securityContext: {capabilities: {add: ["SYS_PTRACE"]}}; on a machine of your own run as root the command'
)


class PySpyTool:
    """A sampler beside this process; see profiling.tools.Tool. ToolFailed where it is missing or may not
    look."""

    ranges = None

    def __init__(self, *, is_live: bool) -> None:
        self._is_live = is_live
        found = find("py-spy", str(Path(sys.executable).parent))
        if found is None:
            raise ToolFailed(f"py-spy is missing where the model runs; install it there: {INSTALL}")
        self._program = found
        self._sampler: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str]

    def begin(self, engine: Engine, seconds: float) -> Engine:
        self._folder = tempfile.TemporaryDirectory(prefix="headrace-profile-")
        self._seconds = seconds
        command = record(self._program, os.getpid(), seconds + _SPARE_S, Path(self._folder.name) / FLAMES)
        if self._is_live:
            # It reads while the process goes on: a few samples are lost, no request waits. Native stacks can
            # only be read while it stands still, and of a process of Ray's, 60 threads, that takes too long.
            self._start([*command, "--nonblocking"])
            return engine
        try:
            self._start([*command, "--native"])  # what C and C++ do, too
        except ToolFailed:
            self._start(command)  # not every processor lets it look there
        return engine

    def _start(self, command: list[str]) -> None:
        """Wait until samples are taken: the symbols of large libraries take seconds before."""
        with self._said.open("wb") as said:
            self._sampler = subprocess.Popen(  # noqa: S603  the arguments are ours
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT
            )
        _let_trace(self._sampler.pid)
        latest = time.monotonic() + _GRACE_S
        while _BEGUN not in self._said.read_bytes():
            if self._sampler.poll() is not None:
                raise self._failed()
            if time.monotonic() > latest:
                self._sampler.kill()
                self._sampler.wait()
                raise self._failed()
            time.sleep(_LOOK_S)

    @property
    def _said(self) -> Path:
        return Path(self._folder.name) / "said"

    def is_enough(self) -> bool:
        return self._sampler is not None and self._sampler.poll() is not None

    def end(self) -> Raw:
        if self._sampler is None:
            return Raw()
        sampler, graph = self._sampler, Path(self._folder.name) / FLAMES
        try:
            sampler.send_signal(signal.SIGINT)  # what it has is written then
            sampler.wait(_GRACE_S)
            if not graph.exists():
                raise self._failed()
            return Raw({FLAMES: graph.read_bytes()}, {"rate": _RATE})
        except subprocess.TimeoutExpired as err:
            sampler.kill()
            sampler.wait()
            raise ToolFailed(f"py-spy did not end within {_GRACE_S:.0f} s") from err
        finally:
            self._sampler = None
            self._folder.cleanup()

    def _failed(self) -> ToolFailed:
        said = self._said.read_text(errors="replace")
        reason = next((line for line in said.splitlines() if line.strip().startswith("Error")), said[-200:])
        self._sampler = None
        how = "that profiles it" if not self._is_live else self._by_hand()
        return ToolFailed(f"py-spy failed ({reason.strip()}). {PERMISSION} {how}")

    def _by_hand(self) -> str:
        """What takes the same profile, while this process lives."""
        return " ".join(record("py-spy", os.getpid(), self._seconds, Path(FLAMES)))


def record(program: str, pid: int, seconds: float, graph: Path) -> list[str]:
    """The command that samples a process."""
    arguments = f"record --pid {pid} --duration {math.ceil(seconds)} --rate {_RATE} --threads".split()
    return [program, *arguments, "--format", "flamegraph", "--output", str(graph)]


def _let_trace(pid: int) -> None:
    """Where Yama lets processes be traced by their parents alone, this one may be by its child."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, pid, 0, 0, 0)


def read(files: Mapping[str, bytes], facts: Mapping[str, Any]) -> Found:
    """The functions that most samples were in, without what they called."""
    graph = files[FLAMES].decode(errors="replace")
    whole, own = own_samples(graph)
    rate = float(facts["rate"])
    order = sorted(own.items(), key=lambda entry: -entry[1])[:MOST_ROWS]
    rows = [Row(name, count / rate, count / whole, count) for name, count in order if count]
    title = "Functions, without what they call; calls are samples, of all threads that were not idle"
    tables = [Table(title, rows, whole / rate)] if rows else []
    return Found(tables, files, [f"open {{out}}/{FLAMES} in a browser"])


def own_samples(graph: str) -> tuple[int, dict[str, int]]:
    """All samples of a flame graph, and those that ended in each function: its width less that of what lies
    upon it."""
    frames = [
        (int(y), int(x), int(width), _named(unescape(name))) for name, y, x, width in _FRAME.findall(graph)
    ]
    frames.sort()
    own: dict[str, int] = {}
    starts: dict[int, list[tuple[int, int]]] = {}  # of each level, in order
    for y, x, width, _ in frames:
        starts.setdefault(y, []).append((x, width))
    for y, x, width, name in frames:
        above = starts.get(y + _LEVEL, [])
        first = bisect_left(above, (x, 0))
        inner = 0
        for begin, wide in above[first:]:
            if begin >= x + width:
                break
            inner += wide
        own[name] = own.get(name, 0) + width - inner
    whole = max((width for _, _, width, _ in frames), default=0)
    return whole, own


def _named(frame: str) -> str:
    """Addresses in a library without symbols are one function, to who reads it."""
    if not frame.startswith("0x"):
        return frame
    library = frame.partition("(")[2].rstrip(")").rpartition("/")[2]
    return f"native code ({library or 'unknown'})"
