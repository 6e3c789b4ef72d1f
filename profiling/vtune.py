"""VTune: ITT tasks for it, and the command that attaches it."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import tarfile
import tempfile
from pathlib import Path

from engines.base import Engine
from headrace.errors import ToolFailed
from profiling.commands import find
from profiling.outcome import Found, Raw
from profiling.ranges import IttRanges

RESULT = "vtune"  # the folder that vtune writes
PACKED = "vtune.tar.gz"
_FOLDERS = ("/opt/intel/oneapi/vtune/latest/bin64", "/opt/intel/oneapi/vtune/*/bin64")
_COLLECTOR = "INTEL_LIBITTNOTIFY64"
_READY_S = 5.0
_SPARE_S = 30.0
_GRACE_S = 300.0  # for what it makes of its samples
INSTALL = (
    "get it: apt-get install intel-oneapi-vtune from Intel's repository, or "
    "https://www.intel.com/content/www/us/en/developer/tools/oneapi/vtune-profiler.html"
)
LIMITS = (
    f"VTune sees functions of a process that it attaches to. It sees Headrace's tasks, too, if {_COLLECTOR} "
    "named its collector when the server was started: "
    f"{_COLLECTOR}=/opt/intel/oneapi/vtune/latest/lib64/runtime/libittnotify_collector.so headrace serve "
    "CONFIG. Attaching needs the right to trace (ptrace): root, or in a container the capability SYS_PTRACE"
)


def attach(program: str, pid: int, seconds: float, folder: Path) -> list[str]:
    """The command that collects hotspots of a running process."""
    arguments = ["-collect", "hotspots", "-target-pid", str(pid), "-duration", str(max(1, round(seconds)))]
    return [program, *arguments, "-result-dir", str(folder)]


class VtuneTool:
    """ITT tasks around batches, their steps and requests, with VTune attached; see profiling.tools.Tool.

    ToolFailed tells how to get it and the exact command, where it is missing.
    """

    def __init__(self, seconds: float, alone: str = "") -> None:
        """`alone`: the command that profiles the version in a process of its own, which ends with it."""
        self.ranges = IttRanges()
        self._collector: subprocess.Popen[bytes] | None = None
        self._is_inside = bool(alone) and _COLLECTOR in os.environ  # VTune has started this process
        found = find("vtune", *_FOLDERS)
        if found is None and not self._is_inside:
            command = " ".join(attach("vtune", os.getpid(), seconds, Path("vtune-result")))
            where = f"Then there, where the process is {os.getpid()}"
            if alone:
                command, where = f"vtune -collect hotspots -result-dir vtune-result -- {alone}", "Then"
            raise ToolFailed(
                f"vtune is missing where the model runs; {INSTALL}. {where}:\n  {command}\n{LIMITS}"
            )
        self._program = found or ""

    def begin(self, engine: Engine, seconds: float) -> Engine:
        if self._is_inside:
            return engine
        self._folder = tempfile.TemporaryDirectory(prefix="headrace-profile-")
        # It is ended by us, when the ranges have been marked for so long.
        lasts_s = _READY_S + seconds + _SPARE_S
        command = attach(self._program, os.getpid(), lasts_s, Path(self._folder.name) / RESULT)
        with self._said.open("wb") as said:  # not a pipe: nobody would read it meanwhile
            self._collector = subprocess.Popen(  # noqa: S603  the arguments are ours
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT
            )
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._collector.wait(_READY_S)  # it attaches meanwhile
            if self._collector.returncode:
                raise self._failed()
        return engine

    @property
    def _said(self) -> Path:
        return Path(self._folder.name) / "said"

    def is_enough(self) -> bool:
        return self._collector is not None and self._collector.poll() is not None

    def end(self) -> Raw:
        if self._is_inside:
            return Raw(notes=["VTune writes its result by itself, where it was told to"])
        if self._collector is None:
            return Raw()
        try:
            if self._collector.poll() is None:
                self._collector.send_signal(signal.SIGINT)
            self._collector.wait(_GRACE_S)
            if not (Path(self._folder.name) / RESULT).is_dir():
                raise self._failed()
            packed = io.BytesIO()
            with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=3) as archive:
                archive.add(Path(self._folder.name) / RESULT, RESULT)
            return Raw({PACKED: packed.getvalue()}, notes=[] if _COLLECTOR in os.environ else [LIMITS])
        except subprocess.TimeoutExpired as err:
            self._collector.kill()
            self._collector.wait()
            raise ToolFailed(f"vtune did not end within {_GRACE_S:.0f} s") from err
        finally:
            self._collector = None
            self._folder.cleanup()

    def _failed(self) -> ToolFailed:
        said = self._said.read_text(errors="replace")
        self._collector = None
        return ToolFailed(f"vtune failed: {said.strip()[-400:]}\n{LIMITS}")


def found(raw: Raw) -> Found:
    """How to look at what was collected."""
    if PACKED not in raw.files:
        return Found(notes=raw.notes)
    unpack = f"tar -xzf {{out}}/{PACKED} -C {{out}}"
    report = f"vtune -report hotspots -result-dir {{out}}/{RESULT}"
    return Found(files=raw.files, view=[unpack, report, f"vtune-gui {{out}}/{RESULT}"], notes=raw.notes)
